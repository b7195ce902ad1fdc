"""The page of all settings: of a run, of a federation's member and of an experiment."""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from setting_entries import anchor, entries, example, nested, own_fields, toml_value

from coldfusion_fl.config.comparison import changeable_keys
from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, join_names
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.experiments.plan import Comparison, Scoring
from coldfusion_fl.experiments.reading import ExperimentKeys, RecipeKeys
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.arguments import setting_of

_INTRODUCTION = """\
# Settings

The settings of a run stand in a TOML file, `coldfusion run FILE`. The same settings are the run-config of the Flower
app, `flwr run . --run-config "…"`, where a list of names is one text. Many are also arguments of the strategy
[`ColDFusion`](python.md#the-strategy), for a Flower project of your own. `coldfusion settings` prints the list in a
terminal, and `coldfusion settings --json-schema` prints a schema for editors.

This page has the settings of [a run](#a-run), of [a member of a federation](#a-member) and of
[an experiment](#an-experiment). [The keys of a catalogue](catalogue.md) have a page of their own.
"""


def render() -> str:
    """The page as Markdown."""
    return "\n\n".join([_INTRODUCTION, *_run(), *_presets(), *_member(), *_experiment()]) + "\n"


def _run() -> Iterator[str]:
    yield "## A run\n\nRelative paths start from the folder of the file."
    yield "### At the top of the file"
    yield from entries(Settings, more=_ways_to_write)
    for name, field in Settings.model_fields.items():
        if kind := nested(field):
            table = field.alias or name
            yield f"### `[{table}]` {{ #{table} }}\n\n{field.description}"
            yield from entries(kind, f"{table}.", _ways_to_write)


def _ways_to_write(key: str, field: FieldInfo) -> Iterator[tuple[str, str]]:
    value = example(field)
    table, _, last = key.rpartition(".")
    yield "TOML", f"`{last} = {toml_value(value)}`" + (f" below `[{table}]`" if table else "")
    yield "run-config", f"`{key}={_run_config_value(value)}`"
    if argument := _ARGUMENTS.get(key):
        yield "`ColDFusion`", f"`{argument}={value!r}`"
    changeable = any(key == one or key.startswith(f"{one}.") for one in _CHANGEABLE)
    yield "at a resume", "may change" if changeable else "must stay"


def _run_config_value(value: Any) -> str:
    if isinstance(value, list):
        value = join_names(value)
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _arguments() -> dict[str, str]:
    """The strategy's arguments by the key of the setting."""
    tables = {type_: f"{field.alias}." for field in Settings.model_fields.values() if (type_ := nested(field))}
    found = {}
    for name in inspect.signature(ColDFusion).parameters:
        if setting := setting_of(name):
            kind, field_name = setting
            found[tables.get(kind, "") + (kind.model_fields[field_name].alias or field_name)] = name
    return found


_ARGUMENTS: Mapping[str, str] = _arguments()
_CHANGEABLE = tuple(changeable_keys(Settings))


def _presets() -> Iterator[str]:
    yield (
        '### Presets { #preset }\n\n`preset = "NAME"` at the top of a file starts from a named recipe. Settings of the '
        "file replace those of the preset."
    )
    for name, table in PRESETS.items():
        lines = "\n".join(
            f"| [`{key}`](#{anchor(key)}) | `{toml_value(value)}` |" for key, value in flatten(table).items()
        )
        yield f'#### `preset = "{name}"` {{ #preset-{name} }}\n\n| setting | value |\n|---|---|\n{lines}'


def _member() -> Iterator[str]:
    yield (
        "## A member\n\nThe settings of a member of a federation are in its `member.toml`: see "
        "[A federation over a network](../how-to/federation.md). The server cannot change any of them."
    )
    yield from entries(Member, "member.", _in_toml)


def _experiment() -> Iterator[str]:
    yield (
        "## An experiment\n\nAn experiment is a TOML file for `coldfusion experiment FILE`. Its table `[run]` has "
        'the settings of [a run](#a-run). With `extends = "OTHER.toml"` a file changes parts of another file in its '
        "folder; recipes of its own replace all recipes of the other file."
    )
    parts: tuple[tuple[str, str, type[BaseModel], str], ...] = (
        ("At the top of an experiment", "experiment.", ExperimentKeys, "The keys before the first table."),
        ("`[scoring]` { #scoring }", "scoring.", Scoring,
         "How every base is scored. The tables `[scoring.finetune]` and `[scoring.evaluate]` have the settings of "
         "[`[finetune]`](#finetune) and [`[evaluate]`](#evaluate)."),
        ("`[recipes.NAME]` { #recipes }", "recipes.", RecipeKeys,
         "A way to create a base. Beside these keys, a recipe has settings of [a run](#a-run), which replace those of "
         "`[run]`."),
        ("`[[comparisons]]` { #comparisons }", "comparisons.", Comparison,
         "Two recipes whose last bases are compared."),
    )  # fmt: skip
    for title, prefix, kind, sentence in parts:
        yield f"### {title}\n\n{sentence}"
        yield from entries(kind, prefix, _in_toml)


def _in_toml(key: str, field: FieldInfo) -> Iterator[tuple[str, str]]:
    yield "TOML", f"`{key.rpartition('.')[2]} = {toml_value(example(field))}`"


def settings_tables() -> Mapping[str, Mapping[str, FieldInfo]]:
    """The settings of a run by table and key; the table of the top is empty."""
    tables = {field.alias or name: kind for name, field in Settings.model_fields.items() if (kind := nested(field))}
    return {"": own_fields(Settings)} | {table: own_fields(kind) for table, kind in tables.items()}
