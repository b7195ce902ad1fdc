"""Do the memory and the start of a simulation grow with its contributors? 1,000 against 20 of them, eight a round.

The contributors are the shards of one data set. Measured are the peak memory that `coldfusion run` reports, that of all
its processes, in which shared memory counts once; and the time until the first round begins.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldfusion_fl.runs.events import RoundStarted

from .runs import two_rounds
from .table import Row

_CATALOGUE = """
[tasks.part]
train = "package:orangecontrib/text/datasets/20newsgroups-train.tab"
test = "package:orangecontrib/text/datasets/20newsgroups-test.tab"
text = "Text"
label = "Category"
shards = {count}
"""


def memory(counts: Sequence[int] = (20, 1000)) -> tuple[list[Row], dict[str, Any]]:
    """Run both numbers of contributors once."""
    with tempfile.TemporaryDirectory() as folder:
        found = {str(count): measure(Path(folder) / str(count), count) for count in counts}
    few, many = (found[str(count)] for count in counts)
    what = f"{counts[1]:,} simulated contributors, eight a round"
    return [
        Row(what, f"{counts[0]}", [many["peak-bytes"] / few["peak-bytes"]], "<= 1.1", "times the memory"),
        Row(f"{what}: start", f"{counts[0]}", [many["start-up"] - few["start-up"]], "<= 5", "s more"),
    ], found


def measure(folder: Path, count: int) -> dict[str, float]:
    """The peak memory of a run with this number of contributors, in bytes, and the seconds until its first round."""
    folder.mkdir()
    (folder / "tasks.toml").write_text(_CATALOGUE.format(count=count), encoding="utf-8")
    names = [f"part-{number}" for number in range(1, count + 1)]
    numbers = {"contributors": 8, "examples": 32, "max_length": 32, "train_examples": 20, "test_examples": 10}
    began = time.time()
    ledger = two_rounds(folder / "run.toml", names, "tasks.toml", every=-1, **numbers)
    started = next(event.time for event in ledger.events() if isinstance(event, RoundStarted))
    return {"peak-bytes": ledger.state.peak_memory_bytes or 0, "start-up": started - began}
