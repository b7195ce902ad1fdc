"""The standard benchmarks, about 20 minutes on two cores: `python -m coldfusion_fl.experiments.bench RESULT.json`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .compression import encoded
from .deployment.messages import messages
from .frozen import frozen
from .memory import memory
from .preflight import preflight
from .rounds import rounds
from .start import start
from .table import Row, print_table, write
from .training import training

PARTS: dict[str, Callable[[], tuple[list[Row], Any]]] = {
    "training": training,
    "start": start,
    "rounds": rounds,
    "preflight": preflight,
    "compression": encoded,
    "frozen": frozen,
    "memory": memory,
    "messages": messages,
}


def main(
    result: Annotated[Path, typer.Argument(help="The JSON file to write. The table is printed too.")],
    part: Annotated[
        list[str] | None, typer.Option(help=f"Only this part: {', '.join(PARTS)}; may be repeated.")
    ] = None,
) -> None:
    """Time pairs of ways to do the same work, print a table, and write it with all measurements."""
    if unknown := set(part or ()) - PARTS.keys():
        raise typer.BadParameter(f"no part '{min(unknown)}'. The parts are {', '.join(PARTS)}.")
    rows: list[Row] = []
    details = {}
    for name in part or PARTS:
        found, details[name] = PARTS[name]()
        rows += found
        print_table(found)  # each part takes minutes, so its rows are printed at once
        write(rows, details, result)
    print_table(rows)


if __name__ == "__main__":
    typer.run(main)
