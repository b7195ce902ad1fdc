"""The events: every line that `progress.jsonl` may have."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from docstrings import paragraphs
from field_tables import field_table
from pydantic import BaseModel

from coldfusion_fl.runs import events
from coldfusion_fl.runs.events import Event
from coldfusion_fl.runs.progress import parse_event

# One line of each kind, in the form in which runs write them.
EXAMPLES = Path(__file__).parent / "events.jsonl"


def kinds() -> tuple[type[BaseModel], ...]:
    """The classes of all events, in the order of the source."""
    found: tuple[type[BaseModel], ...] = get_args(get_args(Event)[0])
    return found


def name_of(kind: type[BaseModel]) -> str:
    """The name that a kind of event has in the file."""
    return str(kind.model_fields["kind"].default)


def examples() -> dict[str, str]:
    """A line of each kind."""
    lines = EXAMPLES.read_text(encoding="utf-8").splitlines()
    return {event.kind: line for line in lines if (event := parse_event(line.encode(), EXAMPLES))}


def _entries() -> Iterator[str]:
    lines = examples()
    for kind in kinds():
        name = name_of(kind)
        yield f"## `{name}` {{ #{name} }}\n\n{paragraphs(kind)}"
        yield field_table(kind, without=("kind",))
        if name in lines:
            yield f"```json\n{json.dumps(json.loads(lines[name]), ensure_ascii=False)}\n```"


def _text() -> str:
    """The text of the module, in which the names of the classes become links to their kinds."""
    text = paragraphs(events)
    for kind in kinds():
        text = text.replace(f"`{kind.__name__}`", f"[`{name_of(kind)}`](#{name_of(kind)})")
    return text


PARTS = {"text about events": _text, "events": lambda: "\n\n".join(_entries())}
