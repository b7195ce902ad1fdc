"""The run process and its other end, with engines of the test's own, which a package registers by entry points."""

import sys
import textwrap
import time
from datetime import datetime, timedelta

import psutil
import pytest

from coldfusion_fl.errors import DataError, ErrorCode, RunError, SettingsError
from coldfusion_fl.execution import run_process
from coldfusion_fl.execution.engine import load_engine
from coldfusion_fl.execution.run_process import RunProcess
from coldfusion_fl.process_tree import wait_for_ends
from coldfusion_fl.runs.ledger import Ledger

SETTINGS = {"base": "x", "contributors-per-round": 2, "tasks": {"seen": ["a", "b"]}}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Installs a package with an engine, whose methods are given as code, and starts a run process with it."""

    def start(methods, *args):
        code = "import os, sys, time\nfrom coldfusion_fl.execution.engine import Engine\n"
        code += "from coldfusion_fl.errors import *\n"
        code += "from coldfusion_fl.runs.events import RoundStarted, RunFinished\n"
        code += "class Mine(Engine):\n    title = 'My engine'\n    environment = {'MINE': '1'}\n"
        code += (
            "    def check(self, settings, source, progress): return []\n    def run(self, settings, ledger): pass\n"
        )
        (tmp_path / "my_engine.py").write_text(code + textwrap.indent(textwrap.dedent(methods), "    "))
        about = tmp_path / "my_engine-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-engine\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[coldfusion.engines]\nmine = my_engine:Mine\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.delitem(sys.modules, "my_engine", raising=False)
        return RunProcess(SETTINGS, "my.toml", "mine", args)

    return start


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", SETTINGS)


def logged(ledger):
    """The lines of the log; each begins with the time at which it came, in ISO format."""
    lines = [line.split(" ", 1) for line in (ledger.folder / "log.txt").read_text().splitlines()]
    now = datetime.now().astimezone()
    assert all(abs(now - datetime.fromisoformat(moment)) < timedelta(minutes=10) for moment, _ in lines)
    return [line for _, line in lines]


def test_an_engine_that_is_not_installed_is_an_error_that_names_the_installed_ones():
    with pytest.raises(SettingsError) as error:
        load_engine("simulatoin")
    assert error.value.code == ErrorCode.SETTING_UNKNOWN
    for name in ("simulatoin", "attacked-simulation", "deployment", "simulation"):
        assert name in str(error.value)


def test_an_error_of_the_checks_is_raised_in_the_parent_with_its_code(start):
    check = """
    def check(self, settings, source, progress):
        assert (settings.contributors_per_round, source) == (2, "my.toml")
        class MyError(DataError):
            "A class that the parent does not know."
        raise MyError("no rows", code=ErrorCode.SPLIT_EMPTY)
    """
    with start(check) as run, pytest.raises(DataError, match="no rows") as error:
        run.wait_for_checks()
    assert error.value.code == ErrorCode.SPLIT_EMPTY
    assert run.exit_code is not None


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("def set_up_process(self):\n    print('some traceback')\n    sys.exit(7)", 7),
        # A bug in the checks must not leave both sides waiting for each other.
        ("def check(self, settings, source, progress):\n    raise MemoryError('some traceback')", 1),
    ],
)
def test_the_output_of_a_process_that_ends_before_the_run_is_in_the_error(start, method, code):
    with start(method) as run, pytest.raises(RunError, match=rf"code {code}(?s:.*)some traceback"):
        run.wait_for_checks()


def test_a_run_gets_its_ledger_arguments_and_environment_and_its_output_goes_to_the_log(start, ledger):
    methods = """
    def __init__(self, name):
        self.name = name
    def set_up_process(self):
        print("early output")
    def run(self, settings, ledger):
        print(self.name, os.environ["MINE"])
        ledger.emit(RoundStarted(round=1, sampled=["a"]))
        raise RunError("no contributor is left")
    """
    with start(methods, "argument") as run:
        run.wait_for_checks()
        run.start(ledger)
        assert [event.kind for event in run.events() if event] == ["run-started", "round-started"]
        assert run.exit_code == 1
    assert logged(ledger) == ["early output", "argument 1", "ERROR : no contributor is left"]
    assert ledger.state.reason == "no contributor is left"


def test_a_crash_of_the_engine_is_a_failed_run(start, ledger):
    methods = "def run(self, settings, ledger):\n    os.close(0)\n    raise ValueError('a bug')"
    with start(methods) as run:
        run.wait_for_checks()
        run.start(ledger)
        list(run.events())
    assert ledger.state.reason == "My engine raised an unexpected ValueError: a bug"
    assert "Traceback" in (ledger.folder / "log.txt").read_text()


def test_the_progress_of_the_checks_and_what_they_found_reach_the_parent(start):
    check = """
    def check(self, settings, source, progress):
        for number in (1, 2):
            progress(f"task {number}")
        return ["a note", "another"]
    """
    lines = []
    with start(check) as run:
        assert run.wait_for_checks(lines.append) == ["a note", "another"]
    assert lines == ["task 1", "task 2"]


def test_the_services_of_an_engine_start_before_its_checks(start):
    methods = """
    def prepare(self, settings):
        self.cpus = settings.simulation.cpus
    def check(self, settings, source, progress):
        return [f"prepared for {self.cpus}"]
    """
    with start(methods) as run:
        assert run.wait_for_checks() == ["prepared for 1"]


def test_output_before_the_log_is_known_is_not_lost(start, ledger):
    with start("def set_up_process(self):\n    print('early output')\n    time.sleep(60)") as run:
        deadline = time.monotonic() + 30
        while not run._output.early_lines:
            assert time.monotonic() < deadline
        run.start(ledger)
    assert logged(ledger) == ["early output"]


def test_the_log_has_times_and_no_control_codes(start, ledger):
    """Whoever writes: Python, a library in C, or a child process."""
    methods = r"""
    def run(self, settings, ledger):
        print("\x1b[92mINFO \x1b[0m:\tfused \u2713 \x07")
        os.write(2, b"\x1b[36m(worker)\x1b[0m not utf-8: \xff")
        os.write(2, b"\n 10 %\r 50 %\r100 %\n\n")
        import subprocess
        subprocess.run(["printf", "from a child"])
        os.kill(os.getpid(), 9)
    """
    with start(methods) as run:
        run.wait_for_checks()
        run.start(ledger)
        list(run.events())
    assert logged(ledger) == ["INFO :  fused ✓ ?", "(worker) not utf-8: �", "100 %", "from a child"]


def test_stopping_ends_the_process_and_its_children_and_closes_all_files(start):
    before = psutil.Process().num_fds()
    with start("def set_up_process(self):\n    import subprocess\n    subprocess.run(['sleep', '60'])") as run:
        root = psutil.Process(run._process.pid)
        deadline = time.monotonic() + 30
        while not (children := root.children()):
            assert time.monotonic() < deadline
    assert run.exit_code is not None
    assert wait_for_ends(children, 0) == []
    assert psutil.Process().num_fds() == before


def test_a_simulation_is_not_waited_for_once_its_state_is_finished(start, ledger, monkeypatch):
    """Its contributors may train on, also those that the run gave up."""
    monkeypatch.setattr(run_process, "_GRACE", 40)  # seconds
    methods = """
    may_linger = True
    def run(self, settings, ledger):
        with ledger.track_state():
            ledger.emit(RunFinished())
            time.sleep(0.5)
        time.sleep(60)
    """
    began = time.monotonic()
    with start(methods) as run:
        run.wait_for_checks()
        run.start(ledger)
        assert [event.kind for event in run.events() if event] == ["run-started", "run-finished"]
        assert run.exit_code is None
        run.conclude(ledger)
    assert run.exit_code is not None
    assert ledger.state.state == "finished"
    assert time.monotonic() - began < 40
