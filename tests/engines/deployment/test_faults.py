"""What may happen to a federation on its way, with real processes; each fault ends as docs/reliability.md says.

All happens to one federation, one fault after the other: that the next run begins well is part of each.
"""

import signal
import subprocess
import time

import psutil
import pytest
from acme import Acme, wait_for
from cuttable_connection import CuttableConnection

from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.run.ledger import Ledger

pytestmark = pytest.mark.slow
MEMBERS = ("a", "b", "c")
# All three in each round, and trainings of some seconds.
LONG = {
    "contributors-per-round": "3",
    "evaluate.every": "-1",
    "finetune.keep-head": "true",
    "finetune.examples": "60",
    "finetune.epochs": "40",
    "finetune.patience": "1e6",
    "rounds": "3",
}
# The server takes a node for gone after a minute; until then nobody can come back under its key.
SHORT_OF_PATIENCE = {"round-timeout": "40", "rounds": "5"}


class Broken(Acme):
    """A federation whose third member's connection can be cut."""

    def join_all(self, data, base):
        self.init(MEMBERS, data, base)
        port = open_federation(self.folder).port
        self.connection = CuttableConnection(port)
        file = self.folder / "members" / "c" / "member.toml"
        file.write_text(file.read_text().replace(f":{port}", f":{self.connection.port}"))
        self.serve()
        for name in MEMBERS:
            self.join(name)

    def process(self, name, words):
        """A process of the server or of a member whose command has some words."""
        descendants = psutil.Process(self.processes[name].pid).children(recursive=True)
        alive = [one for one in descendants if one.status() != psutil.STATUS_ZOMBIE]
        return next(one for one in alive if words in " ".join(one.cmdline()))

    def signal_all(self, name, how):
        """Send a signal to all processes of a member."""
        parent = psutil.Process(self.processes[name].pid)
        for one in [parent, *parent.children(recursive=True)]:
            one.send_signal(how)


@pytest.fixture(scope="module")
def federation(tmp_path_factory, toy_data, tiny_base):
    made = Broken(tmp_path_factory.mktemp("faults"))
    made.join_all(toy_data, tiny_base)
    yield made
    assert not made.end()  # no process is left behind


@pytest.fixture
def acme(federation):
    """A running server with three members that are there."""
    wait_for(lambda: federation.online() == set(MEMBERS))
    return federation


class Followed:
    """A run in the federation, that goes on while its test does something to it."""

    def __init__(self, acme, name, data, base, **settings):
        self.acme, self.name = acme, name
        self.ledger = Ledger(acme.home / name)
        file = acme.settings(data, base, **LONG | settings)
        acme.start(name, "run", file, "--federation", acme.folder, "--out", self.ledger.folder)

    def happens(self, kind, seconds=180, **facts):
        """Wait for an event of the run."""

        def there():
            return any(
                event.kind == kind and all(getattr(event, key) == value for key, value in facts.items())
                for event in self.ledger.events()
            )

        wait_for(there, seconds)

    def ends(self, code=0, seconds=400):
        process = self.acme.processes.pop(self.name)
        assert process.wait(seconds) == code, self.acme.said(self.name)

    def rejected(self, number):
        return {one.name: one.reason for one in self.ledger.record(number).rejected}

    def fused(self, number):
        return set(self.ledger.record(number).contributions)


def bases(ledger):
    return [ledger.load_base(number) for number in ledger.rounds()]


def same(one, other):
    return [base.keys() for base in one] == [base.keys() for base in other] and all(
        a[name].tobytes() == b[name].tobytes() for a, b in zip(one, other, strict=True) for name in a
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, toy_data, tiny_base):
    """The bases of the same run in a simulation, in which nothing happens."""
    made = Acme(tmp_path_factory.mktemp("unbroken"))
    settings = made.settings(toy_data, tiny_base, **LONG)
    done = made.coldfusion("run", settings, "--out", made.home / "run")
    assert done.returncode == 0, done.stderr
    return bases(Ledger(made.home / "run"))


def test_a_killed_member_is_missing_and_rejoins(acme, toy_data, tiny_base):
    run = Followed(acme, "killed", toy_data, tiny_base, **SHORT_OF_PATIENCE)
    run.happens("round-started", round=1)
    time.sleep(1)
    acme.process("c", "member.supernode").kill()
    run.ends()
    assert run.fused(1) == {"a", "b"}
    assert "c" in run.rejected(1)
    assert run.fused(5) == set(MEMBERS)
    assert "Restarting it" in acme.said("c")


def test_a_paused_member_is_late_and_nothing_is_fused_twice(acme, toy_data, tiny_base):
    # A node's last heartbeat is up to 23 s old and counts for 60: within 30 s nobody is gone instead of late.
    patience = {"round-timeout": "30", "finetune.epochs": "5"}
    run = Followed(acme, "paused", toy_data, tiny_base, **SHORT_OF_PATIENCE | patience)
    run.happens("round-started", round=1)
    acme.signal_all("c", signal.SIGSTOP)
    run.happens("round-fused", round=1)
    acme.signal_all("c", signal.SIGCONT)
    run.ends()
    assert run.fused(1) == {"a", "b"}
    assert "did not answer within 30 s" in run.rejected(1)["c"]
    later = [run.rejected(number).get("c", "") for number in (2, 3)]
    assert sum("it arrived too late: it belongs to round 1" in reason for reason in later) == 1
    assert "c" in run.fused(5)


def test_a_member_rejoins_after_its_network_was_cut(acme, toy_data, tiny_base):
    run = Followed(acme, "cut", toy_data, tiny_base, **SHORT_OF_PATIENCE)
    run.happens("round-started", round=1)
    time.sleep(1)
    acme.connection.cut()
    run.happens("round-fused", round=1)
    acme.connection.mend()
    run.ends()
    assert run.fused(1) == {"a", "b"}
    assert "c" in run.rejected(1)
    assert "c" in run.fused(5)


@pytest.mark.parametrize("victim", ["deployment.superlink", "flwr-serverapp"])
def test_a_run_continues_after_the_server_was_killed(acme, toy_data, tiny_base, unbroken, victim):
    run = Followed(acme, victim, toy_data, tiny_base)
    run.happens("round-started", round=2)
    acme.process("server", victim).kill()
    run.ends()
    assert any(event.kind == "run-lost" for event in run.ledger.events())
    assert run.ledger.state.state == "finished"
    assert same(bases(run.ledger), unbroken)
    assert "interrupted after round 1" in acme.said(victim)


def test_a_run_is_resumed_after_the_servers_disk_was_full(acme, small_disk, toy_data, tiny_base, unbroken):
    settings = acme.settings(toy_data, tiny_base, **LONG)
    disk = small_disk("18m")  # of two bases and the contributions of one round
    folder = disk / "run"
    done = acme.coldfusion("run", settings, "--federation", acme.folder, "--out", folder)
    assert done.returncode != 0
    assert "the disk is full" in done.stdout + done.stderr
    there = Ledger(folder).rounds()
    assert 0 in there
    assert 3 not in there
    for number in there:
        Ledger(folder).verify(number)
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    done = acme.coldfusion("run", "--resume", folder, "--federation", acme.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert same(bases(Ledger(folder)), unbroken)


def test_a_server_ended_by_sigterm_leaves_no_process_behind(acme):
    descendants = psutil.Process(acme.processes["server"].pid).children(recursive=True)
    assert len(descendants) > 1
    acme.processes.pop("server").send_signal(signal.SIGTERM)
    psutil.wait_procs(descendants, timeout=30)
    assert not any(one.is_running() for one in descendants)
