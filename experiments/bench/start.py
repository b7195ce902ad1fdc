"""How a simulated run starts and ends: one round of eight contributors with 32 examples each, without scores.

Measured are the seconds until the first contributor trains and until the command ends, and the processor time that each
kind of process has taken by then.
"""

import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from coldfusion_fl.runs.events import RoundStarted
from coldfusion_fl.runs.ledger import Ledger

from .rounds import NAMES
from .runs import command_of
from .table import Row

_INTERVAL = 0.1  # seconds between two looks at the processes
# What is in the command line of each kind of process.
_KINDS = {
    "ray::ClientAppActor": "workers",
    "execution.worker": "run process",
    "cli.main": "command line",
    "ray": "Ray's own",
}


def start(turns: int = 2, examples: int = 32, names: tuple[str, ...] = NAMES) -> tuple[list[Row], list[Any]]:
    """Run it some times, one after another."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            found.append(measure(Path(folder) / f"{turn}.toml", examples, names))
    what = f"a run of one round, {len(names)} contributors, {examples} examples, no scores"
    return [
        Row(f"{what}: first contributor trains", "", [turn["training"]["seconds"] for turn in found], "<= 8", "s"),
        Row(f"{what}: the command ends", "", [turn["end"]["seconds"] for turn in found], "<= 13", "s"),
        Row(f"{what}: processor time", "", [sum(turn["end"]["processor"].values()) for turn in found], "", "s"),
    ], found


def measure(config: Path, examples: int, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The seconds and processor seconds of one run at two moments: `training` and `end`."""
    numbers = {"contributors": len(names), "max_length": 128, "train_examples": 50, "test_examples": 50}
    command, folder = command_of(config, list(names), "packaged", rounds=1, every=-1, examples=examples, **numbers)
    began = time.time()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # An ended process has no times any more, so the last ones that were seen count.
    processes: dict[tuple[int, float], tuple[str, float]] = {}
    training: dict[str, Any] = {}
    while run.poll() is None:
        _look(psutil.Process(run.pid), processes)
        if not training and (started := _round_started(folder)):
            training = {"seconds": started - began, "processor": _by_kind(processes)}
        time.sleep(_INTERVAL)
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, command)
    return {"training": training, "end": {"seconds": time.time() - began, "processor": _by_kind(processes)}}


def _look(root: psutil.Process, processes: dict[tuple[int, float], tuple[str, float]]) -> None:
    try:
        found = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in found:
        try:
            times, command = process.cpu_times(), " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        key = process.pid, process.create_time()
        known, _ = processes.get(key, ("", 0.0))
        # A worker begins with the command line of what it was forked from.
        processes[key] = command or known, times.user + times.system


def _by_kind(processes: dict[tuple[int, float], tuple[str, float]]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for command, seconds in processes.values():
        total[next((kind for part, kind in _KINDS.items() if part in command), "others")] += seconds
    return dict(total)


def _round_started(folder: Path) -> float | None:
    if not (folder / "run.json").exists():
        return None
    return next((event.time for event in Ledger(folder).events() if isinstance(event, RoundStarted)), None)
