"""What may happen to a federation on its way, with real processes; docs/operations/reliability.md says how it ends.

All happens to one federation, one run after the other: that the next run begins well is part of each test.
"""

import re
import signal
import ssl
import subprocess
import sys

import psutil
import pytest
from acme import Acme, wait_for
from loopback import CuttableConnection, tls_server
from run_folders import same_rounds

from coldfusion_fl.engines.deployment.certificates import CertificatePair, new_server
from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.runs.ledger import Ledger

MEMBERS = ("a", "b", "c")
# All three in each round.
RUN = {
    "contributors-per-round": "3",
    "evaluate.every": "-1",
    "finetune.keep-head": "true",
    "finetune.freeze": '"embeddings"',
    "rounds": "2",
}


class Broken(Acme):
    """A federation whose last member's connection can be cut."""

    def join_all(self, data, base):
        self.init(MEMBERS, data, base)
        port = open_federation(self.folder).port
        self.connection = CuttableConnection(port)
        file = self.folder / "members" / "c" / "member.toml"
        file.write_text(file.read_text().replace(f":{port}", f":{self.connection.port}"))
        self.serve()
        for name in MEMBERS:
            self.join(name)

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
    wait_for(lambda: federation.online() == set(MEMBERS) and all(map(federation.has_joined, MEMBERS)))
    return federation


class Followed:
    """A run in the federation, that goes on while its test does something to it."""

    def __init__(self, acme, name, data, base, **settings):
        self.acme, self.name = acme, name
        self.ledger = Ledger(acme.home / name)
        file = acme.settings(data, base, **RUN | settings)
        acme.start(name, "run", file, "--federation", acme.folder, "--out", self.ledger.folder)

    def happens(self, kind, name=None, rounds=range(1, 99)):
        """Wait for an event of the run, of a contributor and in some rounds."""

        def there():
            return any(
                event.round in rounds and name in (None, getattr(event, "name", None))
                for event in self.ledger.events()
                if event.kind == kind
            )

        wait_for(there, 300)

    def ends(self, code=0):
        process = self.acme.processes.pop(self.name)
        assert process.wait(400) == code, self.acme.said(self.name)

    def stop(self):
        """End it early, as Ctrl-C does, when it has shown what there is to see."""
        self.acme.processes[self.name].send_signal(signal.SIGINT)
        self.ends(130)

    def rejected(self, name):
        """Rounds and reasons of the rejections of a member."""
        records = [(number, self.ledger.record(number).rejected) for number in self.ledger.rounds()[1:]]
        return [(number, one.reason) for number, rejected in records for one in rejected if one.name == name]

    def fused(self, number):
        return set(self.ledger.record(number).contributions)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, toy_data, tiny_base):
    """The bases of the same run in a simulation, in which nothing happens."""
    made = Acme(tmp_path_factory.mktemp("unbroken"))
    settings = made.settings(toy_data, tiny_base, **RUN)
    done = made.coldfusion("run", settings, "--out", made.home / "run")
    assert done.returncode == 0, done.stderr
    return Ledger(made.home / "run")


@pytest.mark.slow
def test_a_killed_member_and_one_whose_network_was_cut_are_missing_and_rejoin(acme, toy_data, tiny_base):
    # The server takes a node for gone after a minute; until then nobody can come back under its key.
    patience = {"round-timeout": "40", "rounds": "20", "min-contributions": "1"}
    run = Followed(acme, "missing", toy_data, tiny_base, **patience)
    run.happens("round-started")  # at once, before the members answer
    acme.process("b", "member.supernode").kill()
    acme.connection.cut()
    run.happens("round-fused")
    acme.connection.mend()
    for name in ("b", "c"):
        run.happens("contribution-received", name, rounds=range(2, 20))
    run.stop()
    assert run.fused(1) == {"a"}
    assert 1 in dict(run.rejected("b"))
    assert 1 in dict(run.rejected("c"))
    assert "Restarting it" in acme.said("b")


@pytest.mark.long
def test_a_paused_member_is_late_and_nothing_is_fused_twice(acme, toy_data, tiny_base):
    # A node's last heartbeat is up to 23 s old and counts for 60: within 35 s nobody is gone instead of late.
    run = Followed(acme, "paused", toy_data, tiny_base, **{"round-timeout": "35", "rounds": "20"})
    run.happens("round-started")
    acme.signal_all("c", signal.SIGSTOP)
    run.happens("round-fused")
    acme.signal_all("c", signal.SIGCONT)
    run.happens("contribution-rejected", "c", rounds=range(2, 20))
    run.happens("contribution-received", "c", rounds=range(2, 20))
    run.stop()
    assert run.fused(1) == {"a", "b"}
    assert (1, "it did not answer within 35 s") in run.rejected("c")
    assert sum("it arrived too late: it belongs to round 1" in reason for _, reason in run.rejected("c")) == 1


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("deployment.superlink", marks=pytest.mark.slow),
        pytest.param("flwr-serverapp", marks=pytest.mark.long),
    ],
)
def test_a_run_continues_after_the_server_was_killed(acme, toy_data, tiny_base, unbroken, victim):
    run = Followed(acme, victim, toy_data, tiny_base)
    run.happens("round-started", rounds=[2])
    acme.process("server", victim).kill()
    run.ends()
    assert any(event.kind == "run-lost" for event in run.ledger.events())
    assert run.ledger.state.state == "finished"
    assert same_rounds(run.ledger, unbroken)
    assert "interrupted after round 1" in acme.said(victim)


@pytest.mark.long
def test_a_run_is_resumed_after_the_servers_disk_was_full(acme, small_disk, toy_data, tiny_base, unbroken):
    settings = acme.settings(toy_data, tiny_base, **RUN)
    disk = small_disk("18m")  # of two bases and the contributions of one round
    folder = disk / "run"
    done = acme.coldfusion("run", settings, "--federation", acme.folder, "--out", folder)
    assert done.returncode != 0
    assert "the disk is full" in done.stdout + done.stderr
    there = Ledger(folder).rounds()
    assert 0 in there
    assert 2 not in there
    for number in there:
        Ledger(folder).verify(number)
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    done = acme.coldfusion("run", "--resume", folder, "--federation", acme.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert same_rounds(Ledger(folder), unbroken)


def still_alive(processes, seconds=60):
    """Those that have not ended. In a container, nobody may collect the exit code of a process without a parent."""
    _, alive = psutil.wait_procs(processes, timeout=seconds, callback=None)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_killed_server_and_a_killed_member_leave_no_process_and_start_again(acme):
    families = {}
    for name in ("server", "b"):
        families[name] = psutil.Process(acme.processes[name].pid).children(recursive=True)
        assert len(families[name]) > 1
        acme.processes[name].kill()  # by SIGKILL, as the kernel does it when memory is short
        acme.processes[name].wait()
    # At once, as a service manager may do it: the old processes are still ending.
    acme.start("b", "member", "start", acme.folder / "members" / "b")
    before = acme.said("server").count("is up at")
    acme.start("server", "federation", "serve", acme.folder)
    wait_for(lambda: acme.said("server").count("is up at") > before)
    for family in families.values():
        assert not still_alive(family)
    wait_for(lambda: acme.online() == set(MEMBERS))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="there, Flower starts the processes for messages itself")
def test_a_member_whose_executor_was_killed_starts_again(acme):
    executor = acme.process("b", "member.executor")
    family = acme.process("b", "member.supernode").children(recursive=True)
    before = acme.said("b").count("Restarting it")
    executor.kill()
    wait_for(lambda: acme.said("b").count("Restarting it") > before)
    assert not still_alive(family)
    wait_for(lambda: acme.has_joined("b"), 40)  # before the server takes a node that has not signed off for gone


@pytest.mark.slow
def test_a_member_that_is_stopped_signs_off_and_can_come_back_at_once(acme):
    acme.process("b", "member.executor")
    acme.processes["b"].terminate()
    assert acme.processes["b"].wait(30) == 0
    assert acme.online() == set(MEMBERS) - {"b"}
    acme.join("b")
    wait_for(lambda: acme.online() == set(MEMBERS), 40)
    assert acme.has_joined("b")


@pytest.mark.slow
def test_no_secret_is_in_the_arguments_of_a_process_that_this_package_starts(acme):
    """Flower gives a token to the process of the server's app, as SECURITY.md says."""
    keys = ["".join(file.read_text().splitlines()[1:-1]) for file in acme.folder.rglob("*.key")]
    secrets = {key[100:150] for key in keys}  # all begin with the same bytes
    assert len(secrets) >= 5
    for name in ("server", *MEMBERS):
        root = psutil.Process(acme.processes[name].pid)
        for one in [root, *root.children(recursive=True)]:
            try:
                words = one.cmdline()
            except psutil.Error:  # an app of Flower's that has just ended
                continue
            assert not any(secret in word for secret in secrets for word in words)
            assert "--token" not in words or any("flwr-" in word for word in words)


@pytest.mark.slow
def test_a_server_ended_by_sigterm_leaves_no_process_behind(acme):
    descendants = psutil.Process(acme.processes["server"].pid).children(recursive=True)
    assert len(descendants) > 1
    acme.processes.pop("server").send_signal(signal.SIGTERM)
    assert not still_alive(descendants, 30)


@pytest.mark.slow
def test_an_expired_certificate_is_named_on_both_sides_until_it_is_renewed(federation):
    """The server of the federation has ended. Its port answers with a certificate that has expired."""
    server, authority = federation.folder / "server", federation.folder / "authority"
    own = CertificatePair((authority / "ca.crt").read_bytes(), (authority / "ca.key").read_bytes())
    expired = new_server(own, "127.0.0.1", days=-3)
    (server / "server.crt").write_bytes(expired.certificate)
    (server / "server.key").write_bytes(expired.key)
    served = federation.coldfusion("federation", "serve", federation.folder)
    assert served.returncode == 2
    assert re.search(r"server\.crt expired on 20.* clock of this machine .* federation renew", served.stderr)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / "server.crt", server / "server.key")
    with tls_server(context, open_federation(federation.folder).port):
        checked = federation.coldfusion("member", "check", federation.folder / "members" / "a")
        assert checked.returncode == 2
        assert "FAIL  certificate: " in checked.stdout
        wait_for(lambda: "expired on 20" in federation.said("a"), 180)
        assert federation.said("a").count("expired on 20") == 1
    assert federation.coldfusion("federation", "renew", federation.folder).returncode == 0
    federation.start("server", "federation", "serve", federation.folder)
    wait_for(lambda: federation.said("a").count("knows this member's key"), 180)
    wait_for(lambda: "a" in federation.online(), 180)
