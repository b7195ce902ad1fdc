"""The processor time of a message to a deployed member, against a new Python for each message.

One federation has two members of one task. One SuperNode starts processes as this package does, the other one as Flower
does. The processor time of a SuperNode and of all that it starts is measured over a query and four trainings of 32 rows
on a tiny base. The same training is measured beside it in a process that has loaded all modules, without a message: the
rest is the overhead.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.clients.messages import to_record
from coldfusion_fl.clients.own_base import open_base_once
from coldfusion_fl.config.tables import flatten
from coldfusion_fl.data.task import load_task
from coldfusion_fl.engines.deployment.member.join import flower_home, supernode_options
from coldfusion_fl.engines.deployment.member.settings import read_member
from coldfusion_fl.engines.deployment.supervisor import flower_environment
from coldfusion_fl.experiments.bench.contribution import set_task_identity
from coldfusion_fl.experiments.bench.gpu import write_base
from coldfusion_fl.experiments.bench.table import Row
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder

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
                _work_seconds(base)
                ours = federation.member(_OURS)
                assert ours is not None  # the run has had answers from it
                turns, work = [], []
                for turn in range(_TURNS):
                    before = [_seconds(ours), _seconds(psutil.Process(plain.pid))]
                    _run(federation, folder, base, f"turn{turn}", _ROUNDS)
                    after = [_seconds(ours), _seconds(psutil.Process(plain.pid))]
                    turns.append([(end - start) / (1 + _ROUNDS) for start, end in zip(before, after, strict=True)])
                    work.append(_work_seconds(base) * _ROUNDS / (1 + _ROUNDS))
            finally:
                plain.terminate()
                plain.wait()
    what = "a message to a deployed member, tiny base"
    overheads = [ours - alone for (ours, _), alone in zip(turns, work, strict=True)]
    return [
        Row(f"{what}: overhead", "the training alone", overheads, "<= 0.7", "s of processor more"),
        Row(what, "", [ours for ours, _ in turns], "", "s of processor"),
        Row(
            what, "a new Python for each, as Flower does", [flowers / ours for ours, flowers in turns], "", "times less"
        ),
    ], {"seconds": turns, "work-seconds": work}


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


def _work_seconds(base: str) -> float:
    """The processor time of one training in this process, which has loaded all but the base and the rows."""
    node: dict[str, bool | float | int | str] = {
        "name": _OURS,
        "task": TASKS["a"],
        "catalogue": "packaged",
        "base": base,
    }
    settings = flatten({"finetune": settings_of(base, 1, 0)["finetune"]})
    content = RecordDict({"arrays": to_record(load_encoder(open_base(base))), "config": ConfigRecord(settings)})
    set_task_identity()
    torch.set_num_threads(1)
    load_task.cache_clear()
    open_base_once.cache_clear()
    began = time.process_time()
    reply = contributor_app()(
        Message(content, dst_node_id=2, message_type="train"), Context(1, 2, node, RecordDict(), {})
    )
    if reply.has_error():
        raise RuntimeError(reply.error.reason)
    return time.process_time() - began


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
