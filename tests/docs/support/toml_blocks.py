"""Settings on a page are read by the code that reads them in a file of their kind."""

import tomllib
from pathlib import Path

from coldfusion_fl.config.parsing import parse_settings, parse_table
from coldfusion_fl.config.tables import merged
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.experiments.reading import read_experiment

# A run into which a part of a file is put.
_RUN = {"base": "any", "tasks": {"seen": [f"task-{number}" for number in range(16)]}}


def kind_of(table: dict) -> str:
    """What a file with these keys is for."""
    if "recipes" in table or "extends" in table:
        return "experiment"
    if "tasks" in table and all(isinstance(value, dict) for value in table["tasks"].values()):
        return "catalogue"
    if {"task", "server"} <= table.keys():
        return "member"
    if {"name", "address"} <= table.keys():
        return "federation"
    return "run"


def check_toml(text: str, folder: Path) -> str:
    """Read a file, or a part of one, and return its kind.

    Args:
        text: the text of the block.
        folder: where the files lie that it names.

    Raises:
        ColdFusionError: as for a user's file.
    """
    table = tomllib.loads(text)
    kind = kind_of(table)
    file = folder / ("federation.toml" if kind == "federation" else ".block.toml")
    file.write_text(text, encoding="utf-8")
    try:
        if kind == "experiment":
            read_experiment(file)
        elif kind == "catalogue":
            read_catalogues([str(file)])
        elif kind == "member":
            parse_table(Member, table, "the member")
        elif kind == "federation":
            open_federation(folder)
        else:
            parse_settings(merged(_RUN, table), "the page")
    finally:
        file.unlink()
    return kind
