"""The supervisor of a program, in real processes."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from coldfusion_fl.engines.deployment import supervisor
from coldfusion_fl.engines.deployment.supervisor import last_lines, wait_for_leftover
from coldfusion_fl.errors import DeploymentError, ErrorCode

# Notes each start in a file; starts a child that would outlive it, or ends by itself.
PROGRAM = """
import os, subprocess, sys, time
with open("starts", "a") as file:
    file.write(f"{os.getpid()}\\n")
print("\\x1b[92mINFO\\x1b[0m: going to end", flush=True)
if sys.argv[1] == "ends":
    sys.exit(3)
child = subprocess.Popen(["sleep", "1000"])
with open("child", "w") as file:
    file.write(str(child.pid))
time.sleep(1000)
"""
SUPERVISE = """
import sys
from pathlib import Path
from coldfusion_fl.engines.deployment.supervisor import Supervisor

def log(line):
    with open("lines", "a") as file:
        file.write(line + "\\n")

Supervisor(lambda: [sys.executable, "program.py", sys.argv[1]], {"MINE": "1"}, Path("log"), log).run()
"""


@pytest.fixture
def supervise(tmp_path):
    """Starts a supervisor of a program that `ends` or `stays`; kills it at the end."""
    (tmp_path / "program.py").write_text(PROGRAM)
    started = []

    def start(how):
        process = subprocess.Popen([sys.executable, "-c", SUPERVISE, how], cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


def test_a_program_that_ends_is_started_again_and_its_last_lines_are_logged(supervise, tmp_path):
    supervise("ends")
    wait_for(lambda: len(lines_of(tmp_path / "starts")) == 2)
    said = lines_of(tmp_path / "lines")
    assert "exited with code 3" in said[0]
    assert said[1].strip() == "INFO: going to end"
    assert "Restarting it in 2 s" in said[2]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_program_and_its_children_end_with_the_supervisor(supervise, tmp_path, how):
    process = supervise("stays")
    wait_for(lambda: lines_of(tmp_path / "child"))
    pids = [int(lines_of(tmp_path / name)[0]) for name in ("starts", "child")]
    assert all(psutil.pid_exists(pid) for pid in pids)
    process.send_signal(how)
    assert process.wait(30) == 0
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert lines_of(tmp_path / "lines") == ["Stopped."]


WATCHING = """
from coldfusion_fl.engines.deployment import supervisor
supervisor._GRACE = 1.0
supervisor.exit_with_supervisor()
"""


@pytest.mark.parametrize("before", ["", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
def test_the_program_and_its_children_end_when_the_supervisor_is_killed(supervise, tmp_path, before):
    """Even a program that ignores SIGTERM, and a child that has a session of its own."""
    text = PROGRAM.replace('"1000"]', '"1000"], start_new_session=True')
    (tmp_path / "program.py").write_text(before + WATCHING + text)
    process = supervise("stays")
    wait_for(lambda: lines_of(tmp_path / "child"))
    pids = [int(lines_of(tmp_path / name)[0]) for name in ("starts", "child")]
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid):
    """Whether a process runs. In a container, nobody may collect the exit codes of processes without a parent."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def leftover(tmp_path):
    """A process with the arguments of a program of ours, and these arguments."""
    words = ("--database", str(tmp_path / "state.db"))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", *words]) as process:
        yield process, words
        process.kill()


def test_a_process_of_an_earlier_start_that_does_not_end_is_named(leftover, monkeypatch):
    process, words = leftover
    monkeypatch.setattr(supervisor, "_MAX_LEFTOVER", 0.5)
    with pytest.raises(DeploymentError, match=f"kill {process.pid}") as error:
        wait_for_leftover("SuperLink", words, lambda line: None)
    assert error.value.code == ErrorCode.PROCESS_LEFT


def test_a_process_of_an_earlier_start_that_is_ending_is_waited_for(leftover):
    process, words = leftover
    lines = []

    def end(line):
        lines.append(line)
        process.kill()

    wait_for_leftover("SuperLink", words, end)
    assert str(process.pid) in lines[0]
    wait_for_leftover("SuperLink", ("--database", "/elsewhere"), lines.append)
    assert len(lines) == 1


def test_a_second_signal_does_not_interrupt_the_shutdown(supervise, tmp_path):
    (tmp_path / "program.py").write_text("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PROGRAM)
    process = supervise("stays")
    wait_for(lambda: lines_of(tmp_path / "child"))
    pid = int(lines_of(tmp_path / "starts")[0])
    process.send_signal(signal.SIGINT)
    time.sleep(1)  # the supervisor waits after SIGTERM, which the program ignores
    assert psutil.pid_exists(pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not psutil.pid_exists(pid)


def test_the_command_is_computed_before_each_start(supervise, tmp_path):
    """A port that was free may be taken when the program starts again."""
    text = SUPERVISE.replace(
        '[sys.executable, "program.py", sys.argv[1]]', '[sys.executable, "program.py", next(ways)]'
    )
    (tmp_path / "supervise.py").write_text("ways = iter(['ends', 'stays'])\n" + text)
    process = subprocess.Popen([sys.executable, "supervise.py"], cwd=tmp_path)
    try:
        wait_for(lambda: lines_of(tmp_path / "child"))
        assert len(lines_of(tmp_path / "starts")) == 2
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_an_error_before_a_restart_ends_the_supervisor(supervise, tmp_path):
    text = SUPERVISE.replace(".run()", ".run(before_restart=lambda: sys.exit(77))")
    (tmp_path / "supervise.py").write_text(text)
    done = subprocess.run([sys.executable, "supervise.py", "ends"], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 77
    assert len(lines_of(tmp_path / "starts")) == 1


def test_a_large_log_is_rotated(supervise, tmp_path):
    chatter = "while True:\n    print('x' * 99, flush=True)\n    time.sleep(0.001)\n"
    (tmp_path / "program.py").write_text(PROGRAM.replace("time.sleep(1000)", chatter))
    text = SUPERVISE.replace(
        "import sys",
        "import sys\nfrom coldfusion_fl.engines.deployment import supervisor\nsupervisor._MAX_LOG_BYTES = 20_000",
        1,
    )
    (tmp_path / "supervise.py").write_text(text)
    process = subprocess.Popen([sys.executable, "supervise.py", "stays"], cwd=tmp_path)
    try:
        wait_for(lambda: (tmp_path / "log.1").exists() and (tmp_path / "log.1").stat().st_size > 20_000)
        old = (tmp_path / "log.1").read_bytes()
        wait_for(lambda: (tmp_path / "log.1").read_bytes() != old)  # and again
        assert len(lines_of(tmp_path / "starts")) == 1
        assert b"\0" not in (tmp_path / "log").read_bytes()
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_last_lines_skip_empty_lines(tmp_path):
    (tmp_path / "log").write_text("x" * 10_000 + "\n" + "\n".join(f"line {number}\n" for number in range(9)))
    assert last_lines(tmp_path / "log") == [f"line {number}" for number in range(4, 9)]


def test_last_lines_are_of_the_last_start_and_not_of_info_level(tmp_path):
    log_file = tmp_path / "log"
    log_file.write_text("ERROR: of the start before\n")
    position = log_file.stat().st_size
    with log_file.open("a") as file:
        file.write("INFO: ready\n\x1b[91mERROR\x1b[0m: Exit Code: 305\nno such key\nINFO: Shutting down\n")
    assert last_lines(log_file, position) == ["ERROR: Exit Code: 305", "no such key"]
    log_file.write_text("INFO: rotated since\n")
    assert last_lines(log_file, position) == ["INFO: rotated since"]
