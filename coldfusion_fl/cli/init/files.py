"""The two files that `coldfusion init` writes: a catalogue and a run file, with a comment on each setting."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coldfusion_fl.config.commented_toml import comment, commented_lines, nested_table, toml_key, toml_value
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.errors import count
from coldfusion_fl.formatting import text

if TYPE_CHECKING:
    from coldfusion_fl.data.task import Task

CATALOGUE, RUN = "tasks.toml", "run.toml"
_SHOWN_CLASSES, _SHOWN_CHARACTERS = 12, 60
_SHOWN_CONTRIBUTORS = 5
_ROUNDS, _MOST_CONTRIBUTORS = 5, 8
# Short contributions in several rounds are what the preset `recommended` was chosen for.
_PRESET, _EPOCHS = "recommended", 1
# The training rows of a contribution, where contributors have more.
EXAMPLES = 384


def catalogue_text(tasks: "Mapping[str, tuple[Mapping[str, Any], Task]]") -> str:
    """The text of a catalogue.

    Nothing of the rows is in it but the names of columns and classes, and counts.

    Args:
        tasks: for each name, the keys of its table, and the task that they describe.
    """
    names = ",".join(tasks)
    lines = [
        *comment(
            "The tasks of a run: where the tables are, and how they are read. Paths start from this file's folder. "
            f"What is read, and what is left out:\ncoldfusion tasks {shlex.quote(names)} --catalogue {CATALOGUE}"
        )
    ]
    described: set[str] = set()
    for name, (keys, task) in tasks.items():
        lines += ["", f"[tasks.{toml_key(name)}]", *comment(_sizes(task))]
        lines += commented_lines(TaskSpec, keys, {}, described)
        lines += _suggestions(keys, task, is_alone=len(tasks) == 1)
    return "\n".join(lines) + "\n"


def _sizes(task: "Task") -> str:
    """The numbers of rows, and the classes."""
    parts = {"train": task.train, "validation": task.validation, "test": task.test}
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    if task.classes is None:
        return f"Rows: {sizes}. The label is a number."
    shown = ", ".join(text(name, _SHOWN_CHARACTERS) for name in task.classes[:_SHOWN_CLASSES])
    more = f" and {len(task.classes) - _SHOWN_CLASSES} more" if len(task.classes) > _SHOWN_CLASSES else ""
    return f"Rows: {sizes}. {count(len(task.classes), 'class', 'classes')}: {shown}{more}."


def _suggestions(keys: Mapping[str, Any], task: "Task", *, is_alone: bool) -> list[str]:
    """Keys that may be wanted, as comments."""
    lines = []
    classes = task.classes or ()
    if 0 < len(classes) <= _SHOWN_CLASSES and all(name.lstrip("-").isdecimal() for name in classes):
        names = {name: f"class {name}" for name in classes}
        lines += [
            *comment(TaskSpec.model_fields["labels"].description or ""),
            f"# labels = {toml_value(names)}",
        ]
    if is_alone and "shards" not in keys:
        lines += [*comment(TaskSpec.model_fields["shards"].description or ""), "# shards = 4"]
    return lines


def choose_examples(rows: Mapping[str, int]) -> tuple[int, str]:
    """The training rows of a contribution, and the reason where a contributor has fewer rows than usual.

    Args:
        rows: the number of training rows of each contributor.

    Returns:
        The setting `finetune.examples`, and a remark; empty where all contributors have enough rows.
    """
    few = sorted(name for name, number in rows.items() if number < EXAMPLES)
    if len(few) == len(rows):
        most = max(rows.values())
        return 0, f"all rows: the largest contributor has {most}; with many more, {EXAMPLES} is a good number"
    if few:
        names = ", ".join(f"'{text(name, _SHOWN_CHARACTERS)}'" for name in few[:_SHOWN_CONTRIBUTORS])
        more = f" and {len(few) - _SHOWN_CONTRIBUTORS} more" if len(few) > _SHOWN_CONTRIBUTORS else ""
        ending = "has fewer rows, which are all used" if len(few) == 1 else "have fewer rows, and use them all"
        return EXAMPLES, f"{names}{more} {ending}"
    return EXAMPLES, ""


def run_table(
    base: str, seen: Sequence[str], max_length: int, more: Mapping[str, Any], examples: int = EXAMPLES
) -> dict[str, Any]:
    """The settings of a first run.

    Args:
        base: the base.
        seen: the tasks.
        max_length: the maximum length of a text in tokens.
        more: further settings, by table; they replace these.
        examples: the training rows of a contribution; 0: all.
    """
    few = {} if len(seen) > 1 else {"min-contributions": 1}
    finetune = {"epochs": _EPOCHS, "examples": examples, "max-length": max_length, **more.get("finetune", {})}
    return {
        "base": base,
        "preset": _PRESET,
        "rounds": _ROUNDS,
        "contributors-per-round": min(len(seen), _MOST_CONTRIBUTORS),
        **few,
        "tasks": {"catalogue": CATALOGUE, "seen": list(seen)},
        "finetune": finetune,
        "evaluate": {"every": 0},
        **{key: value for key, value in more.items() if key != "finetune"},
    }


def run_text(table: Mapping[str, Any], remarks: Mapping[str, str], estimate: str) -> str:
    """The text of a run file.

    Args:
        table: the settings, of `run_table`.
        remarks: why a setting has its value, by its full key.
        estimate: sentences on the time and the memory that the run needs; empty: not known.
    """
    lines = [
        *comment(
            f"A run of ColD Fusion:\ncoldfusion run {RUN}\nAll settings, with their defaults: coldfusion settings"
        ),
        *comment(estimate),
        "",
        *commented_lines(Settings, table, remarks, set()),
    ]
    for key, values in table.items():
        field = Settings.model_fields.get(key)
        if field and (kind := nested_table(field)):
            lines += ["", *comment(field.description or ""), f"[{key}]"]
            own = {
                name.removeprefix(f"{key}."): remark for name, remark in remarks.items() if name.startswith(f"{key}.")
            }
            lines += commented_lines(kind, values, own, set())
    return "\n".join(lines) + "\n"
