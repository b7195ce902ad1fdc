"""What may happen to a federation on its way, with real processes; each fault ends as docs/reliability.md says."""

import signal
import socket
import threading
import time

import psutil
import pytest
from acme import Acme, wait_for
from coldfusion_fl.deployment.federation import open_federation

from coldfusion_fl.ledger import Ledger

pytestmark = pytest.mark.slow
MEMBERS = ("a", "b", "c")
# All three in each round, and trainings of some seconds.
LONG = {
    "contributors-per-round": "3",
    "evaluate.every": "-1",
    "finetune.keep-head": "true",
    "finetune.examples": "60",
    "finetune.epochs": "150",
    "finetune.patience": "1e6",
    "rounds": "3",
}


@pytest.fixture
def acme(tmp_path, toy_data, tiny_base):
    """A running server with three members that have joined."""
    made = Acme(tmp_path)
    made.init(MEMBERS, toy_data, tiny_base)
    yield made
    assert not made.end()  # no process is left behind


def everybody_joins(acme):
    acme.serve()
    for name in MEMBERS:
        acme.join(name)
    wait_for(lambda: acme.online() == set(MEMBERS))


class Followed:
    """A run in the federation, that goes on while its test does something to it."""

    def __init__(self, acme, settings, name="run"):
        self.acme, self.name = acme, name
        self.ledger = Ledger(acme.home / name)
        acme.start(name, "run", settings, "--federation", acme.folder, "--out", self.ledger.folder)

    def happens(self, kind, seconds=180, **facts):
        """Wait for an event of the run."""

        def there():
            return any(
                event["kind"] == kind and all(event.get(key) == value for key, value in facts.items())
                for event in self.ledger.events()
            )

        wait_for(there, seconds)

    def ends(self, code=0, seconds=300):
        process = self.acme.processes.pop(self.name)
        assert process.wait(seconds) == code, self.acme.said(self.name)

    def refused(self, number):
        return {one["name"]: one["reason"] for one in self.ledger.record(number)["refused"]}

    def fused(self, number):
        return set(self.ledger.record(number)["contributions"])


def process_of(acme, name, what):
    """The process of a member or of the server whose command has some words."""
    parent = psutil.Process(acme.processes[name].pid)
    return next(one for one in parent.children(recursive=True) if what in " ".join(one.cmdline()))


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


@pytest.mark.parametrize("victim", ["the SuperLink", "the server app"])
def test_what_runs_the_server_is_killed_and_the_run_goes_on(acme, toy_data, tiny_base, unbroken, victim):
    everybody_joins(acme)
    run = Followed(acme, acme.settings(toy_data, tiny_base, **LONG))
    run.happens("round", round=2)
    words = "deployment.superlink" if victim == "the SuperLink" else "flwr-serverapp"
    process_of(acme, "server", words).kill()
    run.ends()
    assert any(event["kind"] == "lost" for event in run.ledger.events())
    assert run.ledger.status["state"] == "finished"
    assert same(bases(run.ledger), unbroken)
    assert "LOST after round 1" in acme.said("run")


def test_a_member_that_is_killed_is_missed_and_comes_back(acme, toy_data, tiny_base):
    everybody_joins(acme)
    run = Followed(acme, acme.settings(toy_data, tiny_base, **LONG | {"round-timeout": "60"}))
    run.happens("round", round=1)
    time.sleep(1)
    process_of(acme, "c", "flower-supernode").kill()
    run.ends()
    assert run.fused(1) == {"a", "b"}
    assert "c" in run.refused(1)
    assert run.fused(3) == {"a", "b", "c"}
    assert "started again" in acme.said("c")


def pause(process, how):
    for one in [process, *process.children(recursive=True)]:
        one.send_signal(how)


def test_a_member_that_is_paused_is_late_and_nothing_is_fused_twice(acme, toy_data, tiny_base):
    everybody_joins(acme)
    run = Followed(acme, acme.settings(toy_data, tiny_base, **LONG | {"round-timeout": "25", "rounds": "4"}))
    run.happens("round", round=1)
    member = psutil.Process(acme.processes["c"].pid)
    pause(member, signal.SIGSTOP)
    run.happens("fused", round=1)
    pause(member, signal.SIGCONT)
    run.ends()
    assert run.fused(1) == {"a", "b"}
    assert "did not answer within 25 s" in run.refused(1)["c"]
    later = [run.refused(number).get("c", "") for number in (2, 3, 4)]
    assert any("it came too late: it is of round 1" in reason for reason in later)
    assert "c" in run.fused(4)


class Wire:
    """A connection between members and a server, that can be cut."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self):
        return self._listener.getsockname()[1]

    def cut(self):
        self.is_cut = True
        for one in self._open:
            one.close()

    def mend(self):
        self._open.clear()
        self.is_cut = False

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                one.close()


def test_the_network_to_a_member_is_cut_and_comes_back(acme, toy_data, tiny_base):
    file = acme.folder / "members" / "c" / "member.toml"
    port = open_federation(acme.folder).port
    wire = Wire(port)
    file.write_text(file.read_text().replace(f":{port}", f":{wire.port}"))
    everybody_joins(acme)
    run = Followed(acme, acme.settings(toy_data, tiny_base, **LONG | {"round-timeout": "25", "rounds": "5"}))
    run.happens("round", round=1)
    wire.cut()
    run.happens("fused", round=1)
    wire.mend()
    run.ends()
    assert "c" in run.refused(1)
    assert run.fused(1) == {"a", "b"}
    assert "c" in run.fused(5)


def test_a_server_that_is_ended_politely_leaves_nothing_behind(acme):
    everybody_joins(acme)
    family = psutil.Process(acme.processes["server"].pid).children(recursive=True)
    assert len(family) > 1
    acme.processes.pop("server").send_signal(signal.SIGTERM)
    psutil.wait_procs(family, timeout=30)
    assert not any(one.is_running() for one in family)
