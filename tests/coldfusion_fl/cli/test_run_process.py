import textwrap

import psutil
import pytest

from coldfusion_fl.cli import run_process as launch
from coldfusion_fl.cli.run_process import RunProcess
from coldfusion_fl.errors import DataError, RunError
from coldfusion_fl.run.ledger import Ledger


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Puts a program in the simulation's place."""

    def write(code):
        (tmp_path / "stand_in.py").write_text("import json, os, sys, time\n" + textwrap.dedent(code))
        monkeypatch.setattr(launch, "_SIMULATION", "stand_in")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return RunProcess({"rounds": 3}, "my.toml")

    return write


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {})


def test_what_the_checks_find_is_raised_here(child):
    code = """
    asked = json.loads(sys.stdin.readline())
    assert asked == {"settings": {"rounds": 3}, "source": "my.toml"}
    os.write(int(sys.argv[2]), json.dumps({"class": "DataError", "message": "no rows"}).encode() + b"\\n")
    sys.stdin.readline()
    """
    with child(code) as run, pytest.raises(DataError, match="no rows"):
        run.wait_for_checks()
    assert run.exit_code is not None


def test_a_process_that_dies_in_its_checks_says_what_it_said(child):
    with child("print('some traceback'); sys.exit(7)") as run, pytest.raises(RunError, match="code 7.*\\n.*traceback"):
        run.wait_for_checks()


def test_what_is_said_before_the_log_is_taken_over_is_in_the_log(child, ledger):
    code = """
    print("early", flush=True)
    os.write(int(sys.argv[2]), b"null\\n")
    sys.stdin.readline(), sys.stdin.readline()
    print("raylet died", flush=True)
    sys.exit(3)
    """
    with child(code) as run:
        run.wait_for_checks()
        run.begin(ledger)
        assert [event["kind"] for event in run.events() if event] == ["began"]
        assert run.exit_code == 3
    assert (ledger.folder / "log.txt").read_text() == "early\nraylet died\n"


def test_nothing_is_left_behind(child):
    before = psutil.Process().num_fds()
    with child("time.sleep(60)") as run:
        process = run._process
    assert process.poll() is not None
    assert psutil.Process().num_fds() == before


@pytest.mark.slow
def test_a_bug_in_the_checks_does_not_leave_both_sides_waiting(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import coldfusion_fl.run.preflight\n"
        "def broken(*_): raise MemoryError('no memory is left')\n"
        "coldfusion_fl.run.preflight.check_contents = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        RunProcess({"base": "x", "contributors-per-round": 2, "tasks": {"seen": ["a", "b"]}}, "my.toml") as run,
        pytest.raises(RunError, match="no memory is left"),
    ):
        run.wait_for_checks()
