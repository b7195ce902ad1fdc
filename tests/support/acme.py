"""A federation in real processes on loopback; importable without pytest."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from coldfusion_fl.engines.deployment.control import control_of
from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.engines.deployment.member.join import free_port

COLDFUSION = [str(Path(sys.executable).with_name("coldfusion"))]
# As many threads as Ray gives a simulated contributor of one core: sums are then made in the same order.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
HOOKS = Path(__file__).parent / "hooks"


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.5)


def hooked(what):
    """Variables of the environment that change a process as sitecustomize.py of the hooks says."""
    path = os.pathsep.join([str(HOOKS), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "COLDFUSION_HOOK": what}


class Acme:
    """A federation with its processes; whatever was started is ended with it."""

    def __init__(self, folder):
        self.home = folder
        self.folder = folder / "acme"
        self.processes = {}

    def coldfusion(self, *words, timeout=300, more=None):
        """Run a command to its end; more of the environment comes from `more`."""
        return subprocess.run(
            [*COLDFUSION, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.home,
            env=os.environ | (more or {}),
            check=False,
        )

    def start(self, name, *words, more=None):
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*COLDFUSION, *map(str, words)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=ENVIRONMENT | (more or {}),
            )

    def said(self, name):
        return (self.home / f"{name}.log").read_text()

    def init(self, members, data, base):
        """Make it, with members whose tasks are called as they are."""
        done = self.coldfusion(
            "federation", "init", self.folder, "--address", f"127.0.0.1:{free_port()}", "--members", ",".join(members)
        )
        assert done.returncode == 0, done.stderr
        for name in members:
            fill_in(self.folder / "members" / name, name, data, base)

    def settings(self, data, base, **changes):
        """Write a run's settings; what changes is TOML by dotted key."""
        top = {
            "base": f'"{base}"',
            "rounds": "2",
            "contributors-per-round": "2",
            "seed": "3",
            "round-timeout": "120",
            "node-timeout": "120",
            "tasks.catalogue": f'"{data / "toy.toml"}"',
            "tasks.seen": '"a, b, c"',
            "finetune.learning-rate": "1e-3",
            "finetune.epochs": "1",
            "finetune.examples": "32",
            "finetune.max-length": "16",
            "evaluate.every": "0",
            "evaluate.shots": "0",
            "evaluate.train-examples": "30",
            **changes,
        }
        file = self.home / "toy.toml"
        file.write_text("".join(f"{key} = {value}\n" for key, value in top.items()))
        return file

    def serve(self, more=None):
        self.start("server", "federation", "serve", self.folder, more=more)
        wait_for(lambda: "is up at" in self.said("server"))

    def join(self, name, folder=None, more=None):
        self.start(name, "member", "start", folder or self.folder / "members" / name, more=more)

    def online(self):
        with control_of(open_federation(self.folder)) as control:
            return {node.name for node in control.nodes() if node.online}

    def has_joined(self, name):
        """Whether the present SuperNode of a member has joined; the server counts one that was killed for a minute."""
        log = (self.folder / "members" / name / "flower" / "supernode.log").read_text()
        return "SuperNode ID" in log.rpartition("Starting Flower SuperNode")[2]

    def process(self, name, words):
        """A process of the server or of a member whose command has some words; it is waited for."""

        def found():
            descendants = psutil.Process(self.processes[name].pid).children(recursive=True)
            alive = [one for one in descendants if one.status() != psutil.STATUS_ZOMBIE]
            return next((one for one in alive if words in " ".join(one.cmdline())), None)

        wait_for(found)
        return found()

    def end(self):
        family = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.Error):
                family += psutil.Process(process.pid).children(recursive=True)
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            process.kill()
        return left


def fill_in(folder, task, data, base):
    """Fill in a member's settings, or fill them in again."""
    file = folder / "member.toml"
    text = file.read_text()
    for key, value in (("task", task), ("base", base), ("catalogue", data / "toy.toml")):
        text = re.sub(f'(?m)^{key} = "[^"]*"', f'{key} = "{value}"', text)
    file.write_text(text)
