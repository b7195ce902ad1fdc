"""Who a contributor is, as its own machine says."""

import sys
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, UserConfig

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.tables import split_names, unflatten
from coldfusion_fl.errors import SettingsError


@dataclass(frozen=True)
class Contributor:
    """A contributor's own settings.

    Attributes:
        name: what it is called in the run; the task's name by default.
        task: its task.
        catalogues: where the task stands.
        data_root: where the task's rows lie.
        base: the model folder or Hub id that gives the architecture and tokenizer.
        seen: whether it contributes; if not, it only judges the bases.
        run_folder: of a simulation: where progress is told; None elsewhere.
        kept: elsewhere: where it keeps what it keeps from round to round, so that it outlives its process; None: in
            Flower's context, which does not.
    """

    name: str
    task: str
    catalogues: tuple[str, ...]
    data_root: str
    base: str
    seen: bool
    run_folder: Path | None
    kept: Path | None = None


def read_contributor(context: Context) -> Contributor:
    """Who this node is.

    In a deployment the node's own `--node-config` says it (`task`, and where its data and model lie); nothing of that
    is taken from the server. In a simulation the node is the run's task of its partition: first the seen tasks.

    Raises:
        SettingsError: the node's settings lack the task or the base, or the run has no task for this partition.
    """
    node = context.node_config
    if "task" in node:
        return _of_node(node)
    if not is_simulated():
        raise SettingsError(
            "this node does not know its task. Start it with --node-config \"task='NAME' base='MODEL'\", and where "
            "needed catalogue='FILE.toml' data-root='FOLDER'."
        )
    settings = parse_settings(unflatten(context.run_config), "the run-config")
    partition, names = int(node["partition-id"]), settings.contributors
    if partition >= len(names):
        raise SettingsError(
            f"partition {partition} has no task: the run names {len(names)} tasks. Simulate {len(names)} nodes."
        )
    return Contributor(
        name=names[partition],
        task=names[partition],
        catalogues=settings.tasks.catalogue,
        data_root=settings.tasks.data_root,
        base=settings.base,
        seen=partition < len(settings.tasks.seen),
        run_folder=Path(settings.out) if settings.out and Path(settings.out).is_absolute() else None,
    )


def is_simulated() -> bool:
    """Whether this is a worker of Flower's simulation; a node of a deployment may have a partition too."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _of_node(node: UserConfig) -> Contributor:
    if "base" not in node:
        raise SettingsError(
            "this node does not know its base: add base='MODEL' to --node-config, the folder or Hub id of the model "
            "that the federation improves."
        )
    task, seen = str(node["task"]), node.get("seen", True)
    if not isinstance(seen, bool):
        raise SettingsError(f"seen={seen!r} in --node-config must be true or false, without quotes.")
    return Contributor(
        name=str(node.get("name", task)),
        task=task,
        catalogues=split_names(str(node.get("catalogue", "packaged"))),
        data_root=str(node.get("data-root", "")),
        base=str(node["base"]),
        seen=seen,
        run_folder=None,
        kept=Path(str(node["kept"])) if "kept" in node else None,
    )
