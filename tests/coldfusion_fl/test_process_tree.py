"""The end of a process and all that it has started."""

import subprocess
import sys
import time

import psutil

from coldfusion_fl.process_tree import ProcessTree, wait_for_ends

COUNTS = """
import pathlib, signal, subprocess, sys, time
folder, depth = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def count(*_):
    with (folder / f"signals{depth}").open("a") as file:
        file.write("x")
signal.signal(signal.SIGTERM, count)
if depth:
    subprocess.Popen([sys.executable, __file__, str(folder), str(depth - 1)], start_new_session=depth == 1)
(folder / f"ready{depth}").touch()
end = time.monotonic() + 60
while not (folder / f"signals{depth}").exists() and time.monotonic() < end:
    time.sleep(0.05)
time.sleep(0.5)
"""


def test_each_process_is_signalled_once_also_one_in_a_session_of_its_own(tmp_path):
    script = tmp_path / "counts.py"
    script.write_text(COUNTS)
    root = subprocess.Popen([sys.executable, str(script), str(tmp_path), "2"], start_new_session=True)
    while not all((tmp_path / f"ready{depth}").exists() for depth in range(3)):
        time.sleep(0.05)
    ProcessTree(root).end(10)
    assert [(tmp_path / f"signals{depth}").read_text() for depth in range(3)] == ["x", "x", "x"]
    assert root.returncode == 0


def test_a_process_whose_exit_code_nobody_collects_has_ended():
    source = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '']).pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process = psutil.Process(int(parent.stdout.readline()))
    assert wait_for_ends([process], 30) == []
    assert process.status() == psutil.STATUS_ZOMBIE
    assert wait_for_ends([psutil.Process(parent.pid)], 0) == [psutil.Process(parent.pid)]
    parent.communicate(b"\n")
    assert wait_for_ends([process, psutil.Process()], 0) == [psutil.Process()]
