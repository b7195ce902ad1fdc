"""Runs of the small projects of many kinds, with FedAvg or ColDFusion; importable without pytest."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from projects.environment import FOREIGN, call

ALARMS = ("WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class ProjectRun:
    """What a project's run left.

    Attributes:
        report: what the project's server wrote: scores, and in a simulation the numbers of messages and log lines.
        arrays: the last arrays.
        output: what was printed.
        seconds: how long it took.
    """

    report: dict
    arrays: dict[str, np.ndarray]
    output: str
    seconds: float

    @property
    def accuracies(self) -> list[float]:
        """The accuracy on the server's data, from the first arrays to the last."""
        return [accuracy for _, accuracy in sorted(self.report["accuracy"].items(), key=lambda item: int(item[0]))]

    @property
    def tracebacks(self) -> int:
        """The number of tracebacks in the output, of the server and of the clients."""
        return self.output.count("Traceback (most recent call last)")

    def lines(self, *levels: str) -> int:
        """The number of log lines of these levels; none: of all from INFO on."""
        found = self.report["log-lines"]
        return sum(number for level, number in found.items() if not levels or level in levels)

    def row(self) -> str:
        """The run as a line of a table."""
        sent = self.report.get("messages", {})
        lines = self.lines() if "log-lines" in self.report else "-"
        return (
            f"{lines} lines | {self.tracebacks} tracebacks | {sent or '-'} | {self.accuracies[-1]:.4f} | "
            f"{self.seconds:.0f} s"
        )


def copy_project(name: str, folder: Path) -> Path:
    """A project, with the package that it shares with others, as it would lie in a repository of its own."""
    shutil.copytree(FOREIGN / name, folder / name)
    shutil.copytree(FOREIGN / "common", folder / name / "common")
    return folder / name


def simulate_project(python: Path, variables: dict[str, str], project: Path, nodes: int, strategy: str) -> ProjectRun:
    """Run a project in Flower's simulation."""
    out = project / f"{strategy}.json"
    words = (python, FOREIGN / "simulate.py", nodes, json.dumps({"out": str(out), "strategy": strategy}))
    began = time.monotonic()
    output = call(*words, cwd=project, env={**variables, "PYTHONPATH": str(project)}, timeout=240)
    return read_run(out, output, time.monotonic() - began)


def read_run(out: Path, output: str, seconds: float) -> ProjectRun:
    """What a run left in the file that its run-config named, and beside it."""
    assert out.is_file(), output[-6000:]
    with np.load(out.with_suffix(".npz")) as arrays:
        return ProjectRun(json.loads(out.read_text()), dict(arrays), output, seconds)


def largest_difference(one: ProjectRun, other: ProjectRun) -> float:
    """The largest difference of a value in the last arrays of two runs."""
    assert one.arrays.keys() == other.arrays.keys()
    return max(
        float(np.abs(array.astype(np.float64) - other.arrays[name].astype(np.float64)).max())
        for name, array in one.arrays.items()
    )
