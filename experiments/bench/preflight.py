"""What the checks before a run add to its start: the time until the first contribution, with and without them.

With the checks, the workers tokenise rows of eight packaged tasks and make a training step and a score of each.
Without them, the process of the run reads the rows, as it did before there were such checks. Each start has a process
of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.engines import simulated_preflight
from coldfusion_fl.engines.simulation_engine import SimulationEngine
from coldfusion_fl.runs.events import ContributionReceived
from coldfusion_fl.runs.ledger import Ledger

from .rounds import ENVIRONMENT, NAMES
from .table import Row
from .training import BASE


def preflight(turns: int = 3, names: tuple[str, ...] = NAMES) -> tuple[list[Row], list[Any]]:
    """Time both in turn."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            times = {way: _time(Path(folder) / f"{way}-{turn}", way, names) for way in ("checked", "unchecked")}
            found.append(times)
    rows = [
        Row(
            "start until the first contribution, with the checks",
            "without them",
            [turn["checked"] - turn["unchecked"] for turn in found],
            "<= 3",
            "s more",
        )
    ]
    return rows, found


def _time(folder: Path, way: str, names: tuple[str, ...]) -> float:
    began = time.time()
    command = [sys.executable, "-m", "coldfusion_fl.experiments.bench.preflight", str(folder), way, *names]
    environment = {**os.environ, **SimulationEngine.environment, **ENVIRONMENT}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return next(e.time for e in Ledger(folder).events() if isinstance(e, ContributionReceived)) - began


def _settings(folder: Path, names: list[str]) -> Settings:
    table = {
        "base": BASE,
        "out": str(folder),
        "rounds": 1,
        "contributors-per-round": len(names),
        "tasks": {"seen": names},
        "finetune": {"epochs": 1, "examples": 32, "max-length": 64},
        "evaluate": {"every": -1},
    }
    return parse_settings(table, "the benchmark")


def _start(folder: Path, way: str, names: list[str]) -> None:
    """Run one round as the run process does: the start of Ray, the checks, and then the run."""
    settings, engine = _settings(folder, names), SimulationEngine()
    if way == "unchecked":
        findings = simulated_preflight.TaskFindings(notes={name: [] for name in names})
        simulated_preflight.check_tasks = lambda *_: findings

    engine.set_up_process()
    engine.prepare(settings)
    if way == "unchecked":
        for name in names:
            load_task(name)
    engine.check(settings, "the benchmark", lambda line: None)
    engine.run(settings, Ledger.create(folder, to_table(settings)))


if __name__ == "__main__":
    _start(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
