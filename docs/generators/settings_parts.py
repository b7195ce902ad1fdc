"""The settings of a run, of a federation's member and of an experiment."""

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from setting_entries import anchor, entries, example, nested, toml_value

from coldfusion_fl.config.comparison import changeable_keys
from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, join_names
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.experiments.plan import Comparison, Scoring
from coldfusion_fl.experiments.reading import ExperimentKeys, RecipeKeys
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.arguments import setting_of


def _run() -> str:
    parts = ["### At the top of the file", *entries(Settings, more=_ways_to_write)]
    for name, field in Settings.model_fields.items():
        if kind := nested(field):
            table = field.alias or name
            parts.append(f"### `[{table}]` {{ #{table} }}\n\n{field.description}")
            parts += entries(kind, f"{table}.", _ways_to_write)
    return "\n\n".join(parts)


def _ways_to_write(key: str, field: FieldInfo) -> Iterator[tuple[str, str]]:
    value = example(field)
    table, _, last = key.rpartition(".")
    yield "TOML", f"`{last} = {toml_value(value)}`" + (f" below `[{table}]`" if table else "")
    yield "run-config", f"`{key}={_run_config_value(value)}`"
    if argument := ARGUMENTS.get(key):
        yield "`ColDFusion`", f"`{argument}={value!r}`"
    changeable = any(key == one or key.startswith(f"{one}.") for one in _CHANGEABLE)
    yield "at a resume", "may change" if changeable else "must stay"


def _run_config_value(value: Any) -> str:
    if isinstance(value, list):
        value = join_names(value)
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _arguments() -> dict[str, str]:
    """The strategy's arguments by the key of the setting."""
    tables = {kind: f"{field.alias}." for field in Settings.model_fields.values() if (kind := nested(field))}
    found: dict[str, str] = {}
    for name in inspect.signature(ColDFusion).parameters:
        if setting := setting_of(name):
            kind, field = setting
            # `min_available_nodes` has the limits of `min-contributions`, but is another number.
            found.setdefault(tables.get(kind, "") + (kind.model_fields[field].alias or field), name)
    return found


ARGUMENTS: Mapping[str, str] = _arguments()
_CHANGEABLE = tuple(changeable_keys(Settings))


def _presets() -> str:
    parts = []
    for name, table in PRESETS.items():
        lines = "\n".join(
            f"| [`{key}`](#{anchor(key)}) | `{toml_value(value)}` |" for key, value in flatten(table).items()
        )
        parts.append(f'#### `preset = "{name}"` {{ #preset-{name} }}\n\n| setting | value |\n|---|---|\n{lines}')
    return "\n\n".join(parts)


def toml_only(kind: type[BaseModel], prefix: str) -> str:
    """The settings of a table that is only written in TOML files."""
    return "\n\n".join(entries(kind, prefix, _in_toml))


def _in_toml(key: str, field: FieldInfo) -> Iterator[tuple[str, str]]:
    yield "TOML", f"`{key.rpartition('.')[2]} = {toml_value(example(field))}`"


PARTS = {
    "settings of a run": _run,
    "presets": _presets,
    "settings of a member": partial(toml_only, Member, "member."),
    "settings of an experiment": partial(toml_only, ExperimentKeys, "experiment."),
    "settings of the scoring": partial(toml_only, Scoring, "scoring."),
    "settings of a recipe": partial(toml_only, RecipeKeys, "recipes."),
    "settings of a comparison": partial(toml_only, Comparison, "comparisons."),
}
