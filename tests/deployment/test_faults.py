"""What may happen to a federation on its way, with real processes; a run that loses its server goes on by itself."""

import psutil
import pytest
from acme import Acme, wait_for

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
