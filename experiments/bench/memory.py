"""Does the memory of a simulation grow with its contributors? 200 against 20 of them, eight a round.

Each contributor has a task of its own with 60 rows. Measured is the peak memory that `coldfusion run` reports: that of
all its processes, in which shared memory counts once.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldfusion_fl.data.task import load_task

from .runs import two_rounds
from .table import Row

_ROWS = 60


def memory(counts: Sequence[int] = (20, 200)) -> tuple[list[Row], dict[str, Any]]:
    """Run both numbers of contributors once."""
    with tempfile.TemporaryDirectory() as folder:
        found = {str(count): peak(Path(folder) / str(count), count) for count in counts}
    few, many = (found[str(count)] for count in counts)
    what = f"{counts[1]} simulated contributors, eight a round"
    return [Row(what, f"{counts[0]}", [many / few], "<= 1.1", "times the memory")], {"peak-bytes": found}


def peak(folder: Path, count: int) -> int:
    """The peak memory of a run with this number of contributors, in bytes."""
    folder.mkdir()
    train = load_task("tv_speakers").train
    names = [f"task{number:03d}" for number in range(count)]
    for number, name in enumerate(names):
        part = range(number * _ROWS, (number + 1) * _ROWS)
        lines = [json.dumps({"text": train.texts[i], "label": int(train.labels[i] == 0)}) for i in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tables = [f'[tasks.{name}]\ntrain = "{name}.jsonl"\n' for name in names]
    (folder / "tasks.toml").write_text("\n".join(tables), encoding="utf-8")
    numbers = {"contributors": 8, "examples": 32, "max_length": 32, "train_examples": 20, "test_examples": 10}
    return two_rounds(folder / "run.toml", names, "tasks.toml", **numbers).state.peak_memory_bytes or 0
