"""The project's yardstick, about 15 minutes on two cores: `python -m coldfusion_fl.experiments.bench RESULT.json`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .compression import encoded
from .frozen import frozen
from .memory import memory
from .rounds import rounds
from .table import Row, print_table, write
from .training import training

PARTS: dict[str, Callable[[], tuple[list[Row], Any]]] = {
    "training": training,
    "rounds": rounds,
    "compression": encoded,
    "frozen": frozen,
    "memory": memory,
}


def main(
    result: Annotated[Path, typer.Argument(help="The JSON file to write. The table is printed too.")],
    part: Annotated[list[str] | None, typer.Option(help=f"Only this of {', '.join(PARTS)}; may be repeated.")] = None,
) -> None:
    """Time two ways of doing the same work in turn, print a table, and write it with all that it was made of."""
    if unknown := set(part or ()) - PARTS.keys():
        raise typer.BadParameter(f"there is no part '{min(unknown)}'; there are {', '.join(PARTS)}.")
    rows: list[Row] = []
    details = {}
    for name in part or PARTS:
        found, details[name] = PARTS[name]()
        rows += found
        print_table(found)  # each part as it comes, for they take minutes
        write(rows, details, result)
    print_table(rows)


if __name__ == "__main__":
    typer.run(main)
