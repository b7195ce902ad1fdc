"""A member's own process, as it joins."""

import subprocess
import sys
import time

import psutil

# In place of reading rows, which takes no time with few rows.
ENDLESS = """
import time
from coldfusion_fl.engines.deployment.member import join
join._read_task = time.sleep
join._check_task(3600)
"""


def test_a_member_killed_while_it_reads_its_rows_leaves_no_process_behind():
    process = subprocess.Popen([sys.executable, "-P", "-c", ENDLESS])
    parent, deadline = psutil.Process(process.pid), time.monotonic() + 60
    while not any("spawn_main" in " ".join(one.cmdline()) for one in parent.children()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2)  # its imports
    children = parent.children()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
