"""The settings of a run.

One schema serves a TOML file (`coldfusion run`), Flower's run-config (`flwr run`) and the messages that carry a
round's settings to the contributors. Keys are written with dashes, as in Flower's own configuration.
"""

import dataclasses
import difflib
import math
import operator
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.errors import RunFolderError, SettingsError

HEADS = ("auto", "class-token", "mean")
# How a contribution may travel, the exact way first.
COMPRESSIONS = ("float32", "bfloat16", "float16", "int8")
MODES = ("finetuned", "frozen", "few-shot")

Names = tuple[str, ...]
Numbers = tuple[int, ...]
_T = TypeVar("_T")
_LIMITS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


def setting(default: Any, **limits: Any) -> Any:
    """A field with a default and limits: any of `at_least`, `above`, `at_most`, `below` and `one_of`."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks take part.

    Attributes:
        catalogue: names of shipped catalogues (`packaged`, `paper36`, `excerpts`) or paths of TOML files.
        data_root: where the relative paths of the catalogues begin; empty: beside the catalogue.
        seen: the tasks that contribute, one contributor each.
        unseen: the tasks that only judge the bases; they never contribute.
    """

    catalogue: Names = setting(("packaged",))
    data_root: str = setting("")
    seen: Names = setting(())
    unseen: Names = setting(())


@dataclass(frozen=True)
class FinetuneSettings:
    """A contributor's local finetuning. The defaults are the paper's, except where it used bigger machines.

    Attributes:
        learning_rate: AdamW's, decaying linearly to 0 over `epochs`.
        weight_decay: AdamW's.
        epochs: at most so many passes over the drawn examples.
        batch_size: examples a step (the paper: 256).
        examples: a contribution's budget: so many training rows are drawn afresh each round; 0: all.
        dev_examples: at most so many development rows decide when to stop.
        max_length: texts are cut at so many tokens.
        patience: stop when the development score gained less than 0.001 over so many epochs.
        head: what the head reads: `class-token`, `mean` (of the last hidden states), or `auto`, as the base
            says.
        keep_head: a contributor goes on with its head of its last round instead of a fresh one.
    """

    learning_rate: float = setting(5e-5, above=0)
    weight_decay: float = setting(0.01, at_least=0)
    epochs: int = setting(10, at_least=1)
    batch_size: int = setting(16, at_least=1)
    examples: int = setting(1000, at_least=0)
    dev_examples: int = setting(200, at_least=1)
    max_length: int = setting(128, at_least=8)
    patience: float = setting(2.0, above=0)
    head: str = setting("auto", one_of=HEADS)
    keep_head: bool = setting(False)


@dataclass(frozen=True)
class EvaluateSettings:
    """How the bases are judged.

    Attributes:
        every: frozen scores after every so many rounds; 0: of the first and the last base only; -1: of none.
        train_examples: so many training rows fit the linear probe of the frozen score.
        test_examples: at most so many test rows are scored, in every mode.
        shots: labelled examples of the few-shot score; 0: no few-shot score in a run.
        few_shot_epochs: passes over them.
        few_shot_seeds: the few-shot score is the mean over so many draws of examples and heads.
    """

    every: int = setting(1, at_least=-1)
    train_examples: int = setting(500, at_least=2)
    test_examples: int = setting(500, at_least=1)
    shots: int = setting(100, at_least=0)
    few_shot_epochs: int = setting(10, at_least=1)
    few_shot_seeds: int = setting(3, at_least=1)


@dataclass(frozen=True)
class ServerSettings:
    """What the server does with the contributions. The defaults are the paper's.

    Attributes:
        fusion: an operator of `coldfusion_fl.fusion`, such as `ties(density=0.2)`.
        server_optimizer: a step of `aggregation.server_optimizer`, such as `nesterov(learning-rate=0.7, momentum=0.9)`.
        ema: decay of an exponential moving average of the bases, written beside the model; 0: none.
        blend: the average's share of what is written; the rest is the first base.
        screening: rules of `aggregation.screening`, one after another, such as `size(factor=5), direction`.
        staleness_discount: the factor by which the update of a late contribution is multiplied for each round that
            it is late; 0: late contributions are rejected.
        max_rejections: a contributor that sent so often what was not fit to be fused is sampled no more; 0: however
            often.
        server_validation: a task of the server's own; `greedy-soup` and `rollback` go by the frozen score on its
            validation split.
        rollback: where that score falls by more than so many points, a round keeps its base; 0: never.
        compression: how contributions travel: `float32`, exactly; `bfloat16`, `float16` or `int8`, as differences to
            the base in a half or a quarter of the bytes. What rounding loses stays at the contributor for its next one.
        fisher_examples: with the fusion `fisher`: so many training rows make a contributor's Fisher diagonal.
        keep_last: the run folder keeps the arrays of so many rounds; 0: of all. The records stay.
    """

    fusion: str = setting("mean")
    server_optimizer: str = setting("plain")
    ema: float = setting(0.0, at_least=0, below=1)
    blend: float = setting(1.0, above=0, at_most=1)
    screening: str = setting("")
    staleness_discount: float = setting(0.0, at_least=0, at_most=1)
    max_rejections: int = setting(3, at_least=0)
    server_validation: str = setting("")
    rollback: float = setting(0.0, at_least=0)
    compression: str = setting("float32", one_of=COMPRESSIONS)
    fisher_examples: int = setting(256, at_least=1)
    keep_last: int = setting(0, at_least=0)


@dataclass(frozen=True)
class SimulationSettings:
    """How contributors are simulated, by Ray.

    Attributes:
        cpus: what each gets of a machine, in cores.
        gpus: likewise, in GPUs.
        address: of a Ray cluster's head, such as `10.0.0.1:6379`, whose machines all simulate; empty: this one alone.
            Each needs this package, and base, data and run folder at the same paths.
    """

    cpus: int = setting(1, at_least=1)
    gpus: float = setting(0.0, at_least=0)
    address: str = setting("")


@dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Attributes:
        base: the pretrained model: a folder in Hugging Face format, a Hub id, or `package:PATH` inside an
            installed package.
        out: the run folder; empty: `runs/NAME`.
        seed: of the sampling, the drawing of examples, the heads and the training.
        rounds: the paper's iterations.
        contributors_per_round: contributors sampled each round.
        min_contributions: with fewer fit contributions a round keeps its base.
        round_timeout: seconds after which a round goes on without those that did not answer.
        node_timeout: seconds that a federation waits at most for the nodes that its tasks name.
        resume: go on with the run that `out` holds, after its last round.
    """

    base: str
    out: str = setting("")
    seed: int = setting(0, at_least=0, below=2**31)
    rounds: int = setting(10, at_least=1)
    contributors_per_round: int = setting(8, at_least=1)
    min_contributions: int = setting(2, at_least=1)
    round_timeout: float = setting(3600.0, above=0)
    node_timeout: float = setting(3600.0, above=0)
    resume: bool = setting(False)
    tasks: TaskSettings = field(default_factory=TaskSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    simulation: SimulationSettings = field(default_factory=SimulationSettings)

    @property
    def contributors(self) -> Names:
        """The names of all nodes of a simulation: seen tasks first, then unseen ones."""
        return self.tasks.seen + self.tasks.unseen


# What may change when a run goes on: the bases do not depend on it, or it is how a person answers what the run showed,
# and each round's record says what it was.
_FREE = {
    "out", "resume", "rounds", "round-timeout", "node-timeout", "min-contributions",
    "server.keep-last", "server.screening", "server.max-rejections",
}  # fmt: skip


def ensure_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Check that a run goes on with the settings it had, as far as its bases depend on them.

    Args:
        old: nested tables, as `to_table` makes them.
        new: the same.
        folder: the run's.

    Raises:
        RunFolderError: they differ; a line for each setting says how.
    """
    ours = [{key: value for key, value in table.items() if key != "simulation"} for table in (old, new)]
    if found := differences(ours[0], ours[1], _FREE, to_table(Settings(base=""))):
        raise RunFolderError(
            f"{folder} holds a run of other settings, so this one cannot go on with it:\n  " + "\n  ".join(found)
        )


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    free: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """A line for each setting that differs between nested tables.

    Args:
        old: one of them.
        new: the other.
        free: keys, with dots, that may differ.
        defaults: what a setting was that `old` does not know yet, as nested tables.
    """
    one, other, usual = flatten(old), flatten(new), flatten(defaults or {})
    return [
        f"{key}: {one.get(key, 'nothing')!r} there, {other.get(key, 'nothing')!r} here"
        for key in sorted(one.keys() | other.keys())
        if key not in free and one.get(key, usual.get(key)) != other.get(key)
    ]


def read_settings(path: Path) -> Settings:
    """Read the settings of a run from a TOML file.

    Raises:
        SettingsError: the file is not there, not UTF-8, not TOML, or a setting is wrong.
    """
    table = read_toml(path, SettingsError)
    return parse_settings(table, str(path))


def read_toml(path: Path, error: type[Exception]) -> dict[str, Any]:
    """Parse a TOML file; whatever is wrong with it is raised as `error`, naming the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise error(f"{path}: this is a folder; a TOML file is needed.") from None
    except OSError as failure:
        raise error(f"{path}: it cannot be read: {failure.strerror}.") from None
    except UnicodeDecodeError as bad:
        raise error(f"{path}: byte {bad.start} is not UTF-8. Save the file as UTF-8.") from None
    except tomllib.TOMLDecodeError as bad:
        raise error(f"{path}: this is not valid TOML: {bad}.") from None


def parse_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Make settings of nested tables with dashed keys, and check that they agree with each other.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named), missing, of another type or out of
            range; or two settings contradict each other.
    """
    settings = parse_table(Settings, _with_preset(table, source), source)
    if not settings.tasks.seen:
        raise SettingsError(
            f"{source}: [tasks] has no 'seen': name the tasks that contribute, for example "
            'seen = "newsgroups, reuters_r8". `coldfusion tasks` lists what there is.'
        )
    names = settings.contributors
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"{source}: [tasks] names {', '.join(twice)} twice. A task is either seen or unseen, once.")
    wanted, there = settings.contributors_per_round, len(settings.tasks.seen)
    if wanted > there:
        raise SettingsError(
            f"{source}: contributors-per-round is {wanted}, but only {there} tasks are seen. "
            f"Set it to {there} or less, or name more seen tasks."
        )
    if settings.min_contributions > wanted:
        raise SettingsError(
            f"{source}: min-contributions is {settings.min_contributions}, more than the {wanted} "
            "contributors-per-round: no round could ever fuse. Lower it."
        )
    return settings


def _with_preset(table: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The settings of the preset that a table names, with the table's own in place of them."""
    if "preset" not in table:
        return table
    if (name := table["preset"]) not in PRESETS:
        raise SettingsError(f"{source}: there is no preset {name!r}.{did_you_mean(str(name), PRESETS)}")
    return merged(PRESETS[name], {key: value for key, value in table.items() if key != "preset"})


def parse_table(
    kind: type[_T], table: Mapping[str, Any], source: str, where: str = "", beside: Collection[str] = ()
) -> _T:
    """Make one settings class of one table; nested settings classes of nested tables.

    What may stand `beside` these settings, and was taken out before, is known to who misspells it.

    Raises:
        SettingsError: as `parse_settings`.
    """
    fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    for key in table:
        if key not in fields:
            known = (*fields, *beside)
            raise SettingsError(f"{source}: unknown setting '{where}{key}'.{did_you_mean(key, known)}")
    values = {}
    for key, spec in fields.items():
        full = where + key
        if key not in table:
            if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise SettingsError(f"{source}: the setting '{full}' is missing.")
            continue
        if dataclasses.is_dataclass(types[spec.name]):
            if not isinstance(table[key], Mapping):
                raise SettingsError(f"{source}: '{full}' is a table: write [{full}] and its settings below.")
            values[spec.name] = parse_table(types[spec.name], table[key], source, where=f"{full}.")
        else:
            values[spec.name] = check_value(table[key], types[spec.name], spec, f"{source}: '{full}'")
    return kind(**values)


def did_you_mean(word: str, known: Any) -> str:
    """A sentence that names the nearest of the known words, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Known are: {', '.join(names)}."


def check_value(raw: Any, kind: Any, spec: Any, where: str) -> Any:
    """A setting's value in the type of its field, within the field's limits.

    Raises:
        SettingsError: it is of another type or out of range; the message begins with `where`.
    """
    if kind == Numbers:
        return _whole_numbers(raw, where)
    if get_origin(kind) is tuple:
        return _names(raw, where)
    if kind == dict[str, float]:
        if not isinstance(raw, Mapping) or not all(_is_number(value) and value >= 0 for value in raw.values()):
            raise SettingsError(f"{where} must give numbers of at least 0 by name, such as a:2 b:1, but is {raw!r}.")
        return {key: float(value) for key, value in raw.items()}
    if get_origin(kind) is dict:
        if not isinstance(raw, Mapping) or not all(isinstance(text, str) for text in raw.values()):
            raise SettingsError(f'{where} must be a table of texts, such as {{ "0" = "no", "1" = "yes" }}.')
        return dict(raw)
    # TOML's 5 is a fine float; its true is no number.
    fits = isinstance(raw, kind) or (kind is float and isinstance(raw, int))
    if not fits or (isinstance(raw, bool) and kind is not bool):
        article = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
        raise SettingsError(f"{where} must be {article[kind]}, but is {raw!r}.")
    if isinstance(raw, float) and not math.isfinite(raw):
        raise SettingsError(f"{where} must be a finite number, but is {raw}.")
    for limit, keeps in _LIMITS.items():
        if limit in spec.metadata and not keeps(raw, spec.metadata[limit]):
            raise SettingsError(f"{where} must be {limit.replace('_', ' ')} {spec.metadata[limit]}, but is {raw}.")
    if "one_of" in spec.metadata and raw not in spec.metadata["one_of"]:
        raise SettingsError(f"{where} must be one of {', '.join(spec.metadata['one_of'])}, but is {raw!r}.")
    return kind(raw)


def _is_number(raw: Any) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)


def _names(raw: Any, where: str) -> Names:
    """A list of names, or a text of names with commas between: Flower's run-config knows no lists."""
    if isinstance(raw, str):
        return split_names(raw)
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) for name in raw):
        raise SettingsError(f"{where} must be a list of names, or one text with commas between them.")
    return tuple(name for name in raw if name)


def _whole_numbers(raw: Any, where: str) -> Numbers:
    if not isinstance(raw, list | tuple) or not all(type(number) is int and number >= 0 for number in raw):
        raise SettingsError(f"{where} must be a list of whole numbers of at least 0, such as [0, 5, 10].")
    return tuple(raw)


def split_names(text: str) -> Names:
    r"""The names in a text, with commas or line ends between them; a comma inside a name is written `\,`."""
    parts = (part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\)[,\n]", text))
    return tuple(part for part in parts if part)


def to_table(settings: Any) -> dict[str, Any]:
    """The nested tables that `parse_settings` would make these settings of."""
    table: dict[str, Any] = {}
    for spec in dataclasses.fields(settings):
        value = getattr(settings, spec.name)
        if dataclasses.is_dataclass(value):
            value = to_table(value)
        elif isinstance(value, tuple):
            value = list(value)
        table[spec.name.replace("_", "-")] = value
    return table


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with others' entries in place of their own."""
    result = dict(table)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dots in the keys and lists as texts: the form of Flower's run-config and messages."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = ", ".join(str(name).replace(",", "\\,") for name in value)
        else:
            flat[prefix + key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested
