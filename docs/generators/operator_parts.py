"""What the server does with contributions: operators, server optimizers, rules and compression."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from docstrings import paragraphs
from links import ROOT
from setting_entries import cell, toml_value

from coldfusion_fl.aggregation import compression
from coldfusion_fl.aggregation.rules import RULES
from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS, blend, moving_average
from coldfusion_fl.config.components import Component
from coldfusion_fl.config.description import describe_values
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.fusion import OPERATORS

_RESULTS = ROOT / "experiments" / "results"
# An index in a formula, such as that of θ_c,i, argmin_z and θ_fused.
_INDEX = re.compile(r"(?<=[\w'])_(c,i|[ciz]|μ|fused|last)(?!\w)")


def _components(known: Mapping[str, type[Component]], setting: str, costs: Mapping[str, str] | None = None) -> str:
    return "\n\n".join(part for kind in known.values() for part in _component(kind, setting, costs or {}))


def _component(kind: type[Component], setting: str, costs: Mapping[str, str]) -> Iterator[str]:
    yield f"### `{kind.name}` {{ #{kind.name} }}\n\n{_with_indices(paragraphs(kind))}"
    if kind.model_fields:
        rows = "\n".join(
            f"| `{field.alias or key}` | {cell(describe_values(field))} | {_with_indices(field.description or '')} |"
            for key, field in kind.model_fields.items()
        )
        yield f"| parameter | values | |\n|---|---|---|\n{rows}"
    yield f"In TOML: `{setting} = {toml_value(str(kind()))}`"
    if kind.name in costs:
        yield costs[kind.name]


def _with_indices(text: str) -> str:
    """A text whose formulas have their indices below the line."""
    return _INDEX.sub(r"<sub>\1</sub>", text)


def _operators() -> str:
    return _components(OPERATORS, "fusion", _costs())


def _costs() -> dict[str, str]:
    """A sentence about the time of each measured operator, and about its memory where that was measured too."""
    figures = _read("fusing.json")
    costs = {
        name: f"Cost: {figures['speed'][name]['times-the-copy']:.1f} times the copy of the contributions."
        for name in OPERATORS
        if name in figures["speed"]
    }
    peaks: dict[str, list[str]] = {}
    for row in figures["memory"]:
        peaks.setdefault(row["fusion"], []).append(
            f"{row['peak-above-base-in-encoders']:.1f} encoders for {row['contributions']} contributions"
        )
    return costs | {name: f"{costs[name]} Peak memory above the base: {', '.join(peaks[name])}." for name in peaks}


def _compressions() -> str:
    figures = _read("compression.json")
    rows = "\n".join(
        f"| `{name}` | {row['bytes-of-float32']:.2f} | {row['encode-seconds']:.2f} s | {row['decode-seconds']:.2f} s "
        f"| {row['points-over-float32']:+.2f} |"
        for name in COMPRESSIONS
        if (row := figures[name])
    )
    head = "| `compression` | bytes, of those of float32 | encoding | decoding | mean score, minus that of float32 |"
    return f"{head}\n|---|---|---|---|---|\n{rows}"


def _read(name: str) -> Any:
    return json.loads((_RESULTS / name).read_text(encoding="utf-8"))


PARTS = {
    "operators": _operators,
    "server optimizers": partial(_components, SERVER_OPTIMIZERS, "server-optimizer"),
    "text about ema": lambda: _with_indices(paragraphs(moving_average)),
    "text about blend": lambda: _with_indices(paragraphs(blend)),
    "rules": partial(_components, RULES, "screening"),
    "text about compression": partial(paragraphs, compression),
    "compressions": _compressions,
}
