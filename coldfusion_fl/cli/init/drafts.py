"""The tasks of the tables that a user names: read, decided, and read again as the catalogue will say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.cli.app import console, print_line
from coldfusion_fl.cli.init.decisions import Decider, Given
from coldfusion_fl.cli.init.files import CATALOGUE
from coldfusion_fl.cli.init.findings import print_findings
from coldfusion_fl.data.catalogue import Catalogue, expand_shards, parse_catalogue
from coldfusion_fl.data.inspection.sources import Source, find_sources, find_unused, raise_all
from coldfusion_fl.data.task import Task, read_task
from coldfusion_fl.errors import ColdFusionError


@dataclass(frozen=True)
class Draft:
    """A task of the catalogue that will be written.

    Attributes:
        name: its name there.
        keys: its keys there.
        task: its rows, all shards together.
        seen: the names of its contributors: its own, or one for each shard.
        shard: the rows of the last contributor, which has the fewest.
    """

    name: str
    keys: Mapping[str, Any]
    task: Task
    seen: tuple[str, ...]
    shard: Task

    @property
    def rows(self) -> dict[str, int]:
        """The number of training rows of each contributor. The first shards have a row more, if rows are left over."""
        number = len(self.task.train)
        return {name: len(range(place, number, len(self.seen))) for place, name in enumerate(self.seen)}


def read_drafts(paths: Sequence[Path], given: Given, home: Path, shards: int) -> list[Draft]:
    """Read all tables, decide what their tasks are, and print what was found.

    Args:
        paths: what the user named.
        given: what the user has decided.
        home: the folder of the catalogue.
        shards: the number of contributors of each table.

    Raises:
        ColdFusionError: tables that are no tasks; the message names all of them.
    """
    decider, drafts, errors = Decider(given), [], []
    for source in find_sources(paths):
        try:
            drafts.append(_draft(source, decider, home, shards))
        except ColdFusionError as error:
            message = str(error) if str(source.shown) in str(error) else f"{source.shown}: {error}"
            errors.append(type(error)(message, code=error.code))
    raise_all(errors)
    for table in find_unused(paths):
        print_line(f"not used, as there are other tables: {table}. Name it to use it.")
    return drafts


def _draft(source: Source, decider: Decider, home: Path, shards: int) -> Draft:
    decision = decider.decide(source)
    chosen = {"text": list(decision.text), "label": decision.label, "metric": decision.metric, "shards": shards}

    def keys(folder: Path) -> dict[str, Any]:
        found = decision.table.task(folder, decision.left_out, **chosen)
        return found | ({"text": found["text"][0]} if len(found.get("text", ())) == 1 else {})

    # The folder of the catalogue need not exist yet, so the paths to read start elsewhere.
    root = Path("/")
    spec = parse_catalogue({"tasks": {source.name: keys(root)}}, CATALOGUE)[source.name]
    specs = expand_shards(source.name, spec)
    whole = spec.model_copy(update={"shards": 1})
    with console.status(""):
        task = _read(source.name, {source.name: whole}, root)
        shard = _read(list(specs)[-1], specs, root) if shards > 1 else task
    print_findings(source.name, decision, task)
    return Draft(source.name, keys(home), task, tuple(specs), shard)


def _read(name: str, specs: Mapping[str, Any], root: Path) -> Task:
    return read_task(name, Catalogue(specs, dict.fromkeys(specs, root), dict.fromkeys(specs, CATALOGUE)))
