"""Whole runs by `coldfusion run` in a process of their own, for benchmarks of more than the training."""

import os
import subprocess
import sys
from pathlib import Path

from coldfusion_fl.evaluation.score_cache import VARIABLE
from coldfusion_fl.runs.ledger import Ledger

from .training import BASE

_RUN = """
base = "{base}"
rounds = {rounds}
contributors-per-round = {contributors}
[tasks]
catalogue = "{catalogue}"
seen = "{names}"
[finetune]
epochs = 1
examples = {examples}
max-length = {max_length}
[evaluate]
every = {every}
train-examples = {train_examples}
test-examples = {test_examples}
shots = 0
"""


def two_rounds(config: Path, names: list[str], catalogue: str = "packaged", every: int = 0, **numbers: int) -> Ledger:
    """Run two rounds to their end, and compute all scores; the arguments are those of `command_of`."""
    command, folder = command_of(config, names, catalogue, every=every, rounds=2, **numbers)
    subprocess.run(command, check=True, env={**os.environ, VARIABLE: ""}, stdout=subprocess.DEVNULL)
    return Ledger(folder)


def command_of(
    config: Path, names: list[str], catalogue: str = "packaged", *, every: int, **numbers: int
) -> tuple[list[str], Path]:
    """Write the settings of a run.

    Args:
        config: the TOML file to write; the run folder lies beside it.
        names: the tasks, all seen.
        catalogue: the catalogue that defines the tasks.
        every: which bases are scored: see the setting `evaluate.every`.
        **numbers: `rounds`, `contributors` a round, `examples` and `max_length` of a training, `train_examples` and
            `test_examples` of a score.

    Returns:
        The command that runs it, and the run folder.
    """
    text = _RUN.format(base=BASE, names=", ".join(names), catalogue=catalogue, every=every, **numbers)
    config.write_text(text, encoding="utf-8")
    folder = config.with_suffix("")
    command = [sys.executable, "-c", "from coldfusion_fl.cli.main import main; main()"]
    return [*command, "run", str(config), "--out", str(folder)], folder
