"""The processor time of a message to a deployed member, against a new Python for each message.

One federation has two members of one task. One SuperNode starts processes as this package does, the other one as Flower
does. The processor time of a SuperNode and of all that it starts is measured over a query and four trainings of 32 rows
on a tiny base.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from coldfusion_fl.engines.deployment.member.join import flower_home, supernode_options
from coldfusion_fl.engines.deployment.member.settings import read_member
from coldfusion_fl.engines.deployment.supervisor import flower_environment
from coldfusion_fl.experiments.bench.gpu import write_base
from coldfusion_fl.experiments.bench.table import Row

from .federation import TASKS, TINY, Federation, settings_of

_OURS, _FLOWERS = "a", "b"
_ROUNDS = 4
_TURNS = 3


def messages() -> tuple[list[Row], dict[str, Any]]:
    """Run the federation once, with one run for each turn, and one before that loads everything."""
    tasks = {_OURS: TASKS["a"]}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = write_base(folder / "base", **TINY)
        with Federation(folder / "federation", base, tasks, [_FLOWERS]) as federation:
            plain = _start_plain(federation.fill_in(_FLOWERS, TASKS["a"]))
            try:
                _run(federation, folder, base, "first", 1)
                ours = federation.member(_OURS)
                assert ours is not None  # the run has had answers from it
                turns = []
                for turn in range(_TURNS):
                    before = [_seconds(ours), _seconds(psutil.Process(plain.pid))]
                    _run(federation, folder, base, f"turn{turn}", _ROUNDS)
                    after = [_seconds(ours), _seconds(psutil.Process(plain.pid))]
                    turns.append([(end - start) / (1 + _ROUNDS) for start, end in zip(before, after, strict=True)])
            finally:
                plain.terminate()
                plain.wait()
    what = "a message to a deployed member, tiny base"
    return [
        Row(what, "", [ours for ours, _ in turns], "<= 0.7", "s of processor"),
        Row(
            what, "a new Python for each, as Flower does", [flowers / ours for ours, flowers in turns], "", "times less"
        ),
    ], {"seconds": turns}


def _start_plain(folder: Path) -> "subprocess.Popen[bytes]":
    """Start Flower's own SuperNode for a member."""
    home = flower_home(folder)
    home.mkdir()
    program = str(Path(sys.executable).with_name("flower-supernode"))
    with (home / "supernode.log").open("wb") as log:
        return subprocess.Popen(
            [program, *supernode_options(read_member(folder), home)],
            env={**flower_environment(), "FLWR_HOME": str(home), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _run(federation: Federation, folder: Path, base: str, name: str, rounds: int) -> None:
    table = settings_of(base, rounds, 120.0) | {"tasks": {"catalogue": "packaged", "seen": [_OURS, _FLOWERS]}}
    if federation.start_run(folder / name, table).wait():
        raise RuntimeError(f"the run failed: {(folder / name / 'log.txt').read_text(encoding='utf-8')}")


def _seconds(root: psutil.Process) -> float:
    """The processor time of a process, of its descendants, and of those that have ended."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended: its parent has its time
            total += sum(process.cpu_times()[:4])  # user and system, its own and its children's
    return total
