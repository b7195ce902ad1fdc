"""A federation in real processes on loopback: the memory of each, round by round, while members are killed.

    python -m coldfusion_fl.experiments.bench.deployment.federation RESULT.json --rounds 50 --kills 20
    python -m coldfusion_fl.experiments.bench.deployment.federation RESULT.json --rounds 3 --large

One SuperLink and three members, with TLS and keys. Member `a` is never killed; the others are killed at random moments.
Memory is the unique set size (USS) of a process, in bytes.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import tomli_w
import typer

from coldfusion_fl.config.parsing import read_toml
from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.experiments.bench.gpu import write_base
from coldfusion_fl.runs.events import BaseKept, RoundFused
from coldfusion_fl.runs.ledger import Ledger

TASKS = {"a": "movie_sentiment", "b": "tv_speakers", "c": "plot_or_review"}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# Kinds of processes, recognised by a part of their command line.
KINDS = {
    "superlink": "deployment.superlink",
    "server app": "flwr-serverapp",
    "member's supernode": "member.supernode",
    "member's training": "multiprocessing.forkserver",  # and the fork server, which has the same command line
}
# From this round on memory should not grow: everything is loaded, and the first messages are stored.
WARM = 10
_LOOK_EVERY = 0.5
_LONGEST = 3 * 3600.0


class Federation:
    """The processes of a federation: as a context, they end with it.

    Args:
        folder: a new one.
        base: the model folder.
        tasks: the packaged task of each member.
        others: names of further members, which are admitted and not started.
    """

    def __init__(self, folder: Path, base: str, tasks: Mapping[str, str] = TASKS, others: Sequence[str] = ()) -> None:
        self.folder = folder
        self._base = base
        self._tasks = tasks
        self._others = others
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log = folder.with_suffix(".log").open("wb")

    def __enter__(self) -> "Federation":
        address = f"127.0.0.1:{free_port()}"
        subprocess.run(
            _words(
                *("federation", "init", self.folder, "--address", address),
                *("--members", ",".join([*self._tasks, *self._others])),
            ),
            check=True,
            stdout=self._log,
        )
        for name, task in self._tasks.items():
            self.fill_in(name, task)
        server = self.start("server", "federation", "serve", self.folder)
        while "is up at" not in Path(self._log.name).read_text(encoding="utf-8"):  # a run does not wait for a server
            if server.poll() is not None:
                raise RuntimeError(Path(self._log.name).read_text(encoding="utf-8"))
            time.sleep(_LOOK_EVERY)
        for name in self._tasks:
            self.start(name, "member", "start", self.folder / "members" / name)
        return self

    def __exit__(self, *_: object) -> None:
        family = self.family()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
        psutil.wait_procs(family, timeout=30)
        self._log.close()

    def fill_in(self, name: str, task: str) -> Path:
        """Fill in the settings of a member; returns its folder."""
        folder = self.folder / "members" / name
        file = folder / "member.toml"
        settings = {**read_toml(file, SettingsError), "task": task, "base": self._base, "catalogue": "packaged"}
        file.write_text(tomli_w.dumps(settings), encoding="utf-8")
        return folder

    def start(self, name: str, *words: object) -> subprocess.Popen[bytes]:
        """Start a command."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(_words(*words), stdout=self._log, stderr=self._log, env=environment)
        self._processes[name] = process
        return process

    def start_run(self, folder: Path, table: Mapping[str, Any], *, simulated: bool = False) -> subprocess.Popen[bytes]:
        """Start a run of the federation, or with the same settings a simulation.

        Args:
            folder: the run folder, a new one; the settings file is written beside it.
            table: the settings.
            simulated: whether it is a simulation.
        """
        file = folder.with_suffix(".toml")
        file.write_text(tomli_w.dumps(table), encoding="utf-8")
        where = () if simulated else ("--federation", self.folder)
        return self.start(folder.name, "run", file, *where, "--out", folder)

    def family(self) -> list[psutil.Process]:
        """All present processes of the federation."""
        found = []
        for process in self._processes.values():
            with contextlib.suppress(psutil.Error):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def member(self, name: str) -> psutil.Process | None:
        """The SuperNode process of a member."""
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(self._processes[name].pid).children(recursive=True):
                if KINDS["member's supernode"] in " ".join(one.cmdline()):
                    return one
        return None

    def memory(self) -> dict[str, dict[int, int]]:
        """The memory in bytes, by kind and process ID."""
        found: dict[str, dict[int, int]] = {kind: {} for kind in KINDS}
        for one in self.family():
            with contextlib.suppress(psutil.Error):
                command = " ".join(one.cmdline())
                kind = next((kind for kind, words in KINDS.items() if words in command), None)
                if kind:
                    found[kind][one.pid] = one.memory_full_info().uss
        return found


def _words(*words: object) -> list[str]:
    return [sys.executable, "-P", "-c", "from coldfusion_fl.cli.main import main; main()", *map(str, words)]


def settings_of(base: str, rounds: int, timeout: float) -> dict[str, Any]:
    """The settings of a run of many short rounds."""
    return {
        "base": base,
        "rounds": rounds,
        "contributors-per-round": 2,
        "round-timeout": timeout,
        "node-timeout": 300,
        "tasks": {"catalogue": "packaged", "seen": list(TASKS)},
        "finetune": {"epochs": 1, "examples": 32, "max-length": 16, "freeze": "embeddings"},
        "evaluate": {"every": -1, "shots": 0},
        "server": {"max-rejections": 0, "keep-last": 3},
    }


def soak(folder: Path, base: str, rounds: int, kills: int, timeout: float = 45.0, seed: int = 0) -> dict[str, Any]:
    """Run rounds while members are killed, and measure the memory.

    A round waits `timeout` seconds for members that were killed.

    Returns:
        `rounds`, and how many `fused`; `kills` of a SuperNode; `bytes` by kind, one number for each round (that of the
        largest process of the kind; of SuperNodes, that of member `a`); `peak-bytes` by kind; `growth` of kinds whose
        process is never restarted: the median of the last five rounds over that of the five after the tenth;
        `left-behind`: the number of processes that did not end.
    """
    draw = random.Random(seed)
    kill_rounds = sorted(draw.choices(range(2, rounds + 1), k=kills))
    began = time.monotonic()
    killed: list[str] = []
    series: dict[str, list[int]] = {kind: [] for kind in KINDS}
    peaks = dict.fromkeys(KINDS, 0)
    ledger = Ledger(folder / "run")
    with Federation(folder / "federation", base) as federation:
        run = federation.start_run(ledger.folder, settings_of(base, rounds, timeout))
        with watching(federation, peaks):
            for number in _rounds(ledger, run):
                sizes, lived = federation.memory(), federation.member("a")
                sizes["member's supernode"] = {
                    pid: size for pid, size in sizes["member's supernode"].items() if lived and pid == lived.pid
                }
                for kind, found in sizes.items():
                    series[kind].append(max(found.values(), default=0))
                for _ in range(kill_rounds.count(number + 1)):
                    victim = draw.choice("bc")
                    threading.Timer(draw.uniform(0, 5), _kill, (federation, victim, killed)).start()
        code = run.wait()
        family = federation.family()
    records = ledger.records()[1:]
    steady = [kind for kind in KINDS if kind != "member's training"]
    return {
        "rounds": len(records),
        "fused": sum(record.fused for record in records),
        "rejected": sum(len(record.rejected) for record in records),
        "missing": sum(len(record.missing) for record in records),
        "kills": len(killed),
        "exit-code": code,
        "minutes": (time.monotonic() - began) / 60,
        "bytes": series,
        "peak-bytes": peaks,
        "growth": {kind: _growth(series[kind]) for kind in steady},
        "left-behind": sum(one.is_running() for one in family),
    }


def _rounds(ledger: Ledger, run: "subprocess.Popen[bytes]") -> Iterator[int]:
    """Yield the rounds as they end, until the run ends."""
    reported, deadline = 0, time.monotonic() + _LONGEST
    while run.poll() is None and time.monotonic() < deadline:
        ended = [event.round for event in ledger.events() if isinstance(event, RoundFused | BaseKept)]
        yield from ended[reported:]
        reported = len(ended)
        time.sleep(_LOOK_EVERY)


@contextlib.contextmanager
def watching(federation: Federation, peaks: dict[str, int]) -> Iterator[None]:
    """Record the largest process of each kind while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY):
            for kind, sizes in federation.memory().items():
                peaks[kind] = max(peaks[kind], *sizes.values(), 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _kill(federation: Federation, name: str, killed: list[str]) -> None:
    victim = federation.member(name)
    if victim:
        with contextlib.suppress(psutil.Error):
            victim.kill()
            killed.append(name)


def _growth(sizes: list[int]) -> float | None:
    """The memory at the end divided by that after the tenth round; None if there are too few rounds."""
    if len(sizes) < WARM + 10:
        return None
    return statistics.median(sizes[-5:]) / statistics.median(sizes[WARM : WARM + 5])


def main(
    result: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    rounds: Annotated[int, typer.Option(help="Number of rounds, each with two of the three members.")] = 50,
    kills: Annotated[int, typer.Option(help="How often a member is killed.")] = 0,
    large: Annotated[bool, typer.Option(help="Use a base of RoBERTa-base's size instead of a tiny one.")] = False,
) -> None:
    """Run a federation, measure its processes, and write the results."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = write_base(folder / "base", **({} if large else TINY))
        found = {
            "base": "RoBERTa-base's size" if large else "tiny",
            **soak(folder, base, rounds, kills, 600 if large else 45),
        }
    result.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if key != "bytes"}, indent=1))


if __name__ == "__main__":
    typer.run(main)
