"""The identity and settings of a contributor, from its own node."""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, UserConfig, UserConfigValue

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import split_names, unflatten
from coldfusion_fl.errors import ErrorCode, SettingsError, count


@dataclass(frozen=True)
class NodeSettings:
    """A contributor's own settings.

    Attributes:
        name: its name in the run; the task's name by default.
        task: the name of its task.
        catalogues: the catalogues that define the task.
        data_root: the folder of the task's rows.
        base: the model folder or Hub id that gives the architecture and tokenizer.
        seen: whether it contributes; False: it only evaluates bases.
        run_folder: in a simulation, the folder to which progress is written; None elsewhere.
        state_folder: the folder of a deployed node's state, which survives a restart. None: the state is in Flower's
            context and is lost when the process ends.
    """

    name: str
    task: str
    catalogues: tuple[str, ...]
    data_root: str
    base: str
    seen: bool
    run_folder: Path | None
    state_folder: Path | None = None


def read_node_settings(context: Context) -> NodeSettings:
    """Read the settings of the contributor on this node.

    In a deployment they come from the node's own `--node-config` (the task, and the paths of its data and model), and
    never from the server. In a simulation the node is the contributor of the run's task with the number of its
    partition; the seen tasks come first.

    Raises:
        SettingsError: the node config has no task or base, or the run has no task for this partition.
    """
    node = context.node_config
    if "task" in node:
        return _from_node_config(node)
    if not is_simulated():
        raise SettingsError(
            "this node does not know its task. Start it with --node-config \"task='NAME' base='MODEL'\". If needed, "
            "add catalogue='FILE.toml' and data-root='FOLDER'.",
            code=ErrorCode.SETTING_MISSING,
        )
    settings = read_run_settings(context)
    partition, names = int(node["partition-id"]), settings.task_names
    if partition >= len(names):
        raise SettingsError(
            f"partition {partition} has no task: the run has {count(len(names), 'task')}. Simulate as many nodes.",
            code=ErrorCode.SETTINGS_CONFLICT,
        )
    return NodeSettings(
        name=names[partition],
        task=names[partition],
        catalogues=settings.tasks.catalogue,
        data_root=settings.tasks.data_root,
        base=settings.base,
        seen=partition < len(settings.tasks.seen),
        run_folder=Path(settings.out) if settings.out and Path(settings.out).is_absolute() else None,
    )


def read_run_settings(context: Context) -> Settings:
    """The settings of a simulated node's run, from the run-config.

    Raises:
        SettingsError: the run-config is not valid.
    """
    return _parse_run_config(tuple(sorted(context.run_config.items())))


# A worker has thousands of messages of one run, whose run-config may name a thousand tasks.
@functools.lru_cache(maxsize=1)
def _parse_run_config(items: tuple[tuple[str, UserConfigValue], ...]) -> Settings:
    return parse_settings(unflatten(dict(items)), "the run-config")


def is_simulated() -> bool:
    """Whether this process is a worker of Flower's simulation.

    The partition does not tell: a node of a deployment may have one too.
    """
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _from_node_config(node: UserConfig) -> NodeSettings:
    if "base" not in node:
        raise SettingsError(
            "this node does not know its base. Add base='MODEL' to --node-config: the folder or Hub id of the model "
            "that the federation improves.",
            code=ErrorCode.SETTING_MISSING,
        )
    task, seen = str(node["task"]), node.get("seen", True)
    if not isinstance(seen, bool):
        raise SettingsError(f"seen={seen!r} in --node-config must be true or false, without quotes.")
    return NodeSettings(
        name=str(node.get("name", task)),
        task=task,
        catalogues=split_names(str(node.get("catalogue", "packaged"))),
        data_root=str(node.get("data-root", "")),
        base=str(node["base"]),
        seen=seen,
        run_folder=None,
        state_folder=Path(str(node["state-dir"])) if "state-dir" in node else None,
    )
