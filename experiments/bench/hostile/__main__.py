"""Rounds of five honest members with one hostile member of each kind, and a stranger that holds connections.

    python -m coldfusion_fl.experiments.bench.hostile RESULT.json --rounds 20
    python -m coldfusion_fl.experiments.bench.hostile RESULT.json --rounds 2 --kinds no-array,mute --idle 0

The bases are compared with those of the honest members alone, in a simulation with the same settings. Memory is the
unique set size (USS) of a process in bytes; the database is that of the SuperLink, with its journal.
"""

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.experiments.bench.deployment.federation import KINDS as PROCESSES
from coldfusion_fl.experiments.bench.deployment.federation import TINY, Federation, watching
from coldfusion_fl.experiments.bench.gpu import write_base
from coldfusion_fl.runs.ledger import Ledger

from .members import KINDS, HostileMember
from .strangers import Stranger

HONEST = ["movie_sentiment", "tv_speakers", "plot_or_review", "election_tweets", "debate_party"]
_LOOK_EVERY = 0.5


def settings(base: str, rounds: int, timeout: float, seen: Sequence[str]) -> dict[str, Any]:
    """The settings of a run in which every member is sampled in every round."""
    return {
        "base": base,
        "rounds": rounds,
        "contributors-per-round": len(seen),
        "round-timeout": timeout,
        "node-timeout": 300,
        "tasks": {"catalogue": "packaged", "seen": list(seen)},
        "finetune": {"epochs": 1, "examples": 32, "max-length": 16, "freeze": "embeddings"},
        "evaluate": {"every": -1, "shots": 0},
    }


def soak(
    folder: Path, base: str, rounds: int, kinds: Sequence[str], idle: int, unfinished: int, timeout: float
) -> dict[str, Any]:
    """Run the rounds, and compare their bases with those of the honest members alone.

    Returns:
        `exit-code` of the run; `rounds`, and how many `fused`; `equal-bases`: rounds whose base is that of the honest
        members alone; `rejected`, `reasons` and `contributions` by member; `excluded`: the first round without the
        member; replies that each hostile member began to send (`sent`), and those that failed; `stranger`: its
        connections; `peak-bytes` by kind of process and of the database; `run-bytes` of the records and events of the
        run folder; `minutes`; `left-behind` processes.
    """
    reference = Ledger(folder / "reference")
    federation = Federation(folder / "federation", base, {name: name for name in HONEST}, kinds)
    ledger = Ledger(folder / "run")
    peaks, began = dict.fromkeys(PROCESSES, 0), time.monotonic()
    with federation:
        opened = open_federation(federation.folder)
        hostile = [HostileMember(opened, kind) for kind in kinds]
        stranger = Stranger(opened.host, opened.port, idle, unfinished)
        threads: list[HostileMember | Stranger] = [*hostile, stranger]
        for thread in threads:
            thread.start()
        run = federation.start_run(ledger.folder, settings(base, rounds, timeout, [*HONEST, *kinds]))
        with watching(federation, peaks), _Database(opened.flower_home) as database:
            code = run.wait()
        for thread in threads:
            thread.stop()
        family = federation.family()
        minutes = (time.monotonic() - began) / 60
        federation.start_run(reference.folder, settings(base, rounds, timeout, HONEST), simulated=True).wait()
    records, alone = ledger.records()[1:], reference.records()[1:]
    return {
        "exit-code": code,
        "rounds": len(records),
        "fused": sum(record.fused for record in records),
        "equal-bases": sum(
            ours.base_sha256 == theirs.base_sha256 for ours, theirs in zip(records, alone, strict=False)
        ),
        "rejected": Counter(one.name for record in records for one in record.rejected),
        "reasons": {one.name: one.reason for record in records for one in record.rejected},
        "contributions": Counter(name for record in records for name in record.contributions),
        "excluded": {name: record.round for record in reversed(records) for name in record.excluded},
        "sent": {member.name: member.sent for member in hostile},
        "failed": {member.name: member.failures for member in hostile},
        "stranger": {"opened": stranger.opened, "rejected": stranger.rejected},
        "peak-bytes": {**peaks, "database": database.peak},
        "run-bytes": sum(file.stat().st_size for file in ledger.folder.rglob("*.json*")),
        "minutes": minutes,
        "left-behind": sum(one.is_running() for one in family),
    }


class _Database(threading.Thread):
    """Watches the size of the SuperLink's database: as a context, until the block ends."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._over = threading.Event()
        self.peak = 0

    def __enter__(self) -> "_Database":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look at the files."""
        while not self._over.wait(_LOOK_EVERY):
            self.peak = max(self.peak, sum(file.stat().st_size for file in self._home.glob("state.db*")))


def main(
    result: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    rounds: Annotated[int, typer.Option(help="Number of rounds, each with every member.")] = 20,
    kinds: Annotated[str, typer.Option(help="The hostile members, with commas between.")] = ",".join(KINDS),
    idle: Annotated[int, typer.Option(help="Idle TLS connections of the stranger.")] = 100,
    unfinished: Annotated[int, typer.Option(help="Requests of the stranger whose bodies never end.")] = 8,
    timeout: Annotated[float, typer.Option(help="The time limit of a round, in seconds.")] = 60,
    keep: Annotated[Path | None, typer.Option(help="A new folder for the runs, which is kept.")] = None,
) -> None:
    """Run honest and hostile members together, and write what happened."""
    with tempfile.TemporaryDirectory() as place:
        folder = keep or Path(place)
        folder.mkdir(exist_ok=True)
        base = write_base(folder / "base", **TINY)
        found = soak(folder, base, rounds, [kind for kind in kinds.split(",") if kind], idle, unfinished, timeout)
    result.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
