"""A simulation whose worker processes are killed, as the kernel does when memory is short."""

import random
import time
from contextlib import suppress

import psutil
import pytest
from commands import start_run
from run_folders import same_rounds

from coldfusion_fl.runs.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
KILLS = 3


def workers(process):
    """The processes of Ray's actors that are at work at the moment."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # others come and go meanwhile
            if child.name().startswith("ray::ClientAppActor."):
                found.append(child)
    return found


def test_workers_killed_at_random_moments_change_no_base(finished, toy_run, tmp_path):
    unbroken, _ = finished
    process, ledger, chance = start_run(toy_run(), tmp_path / "run"), Ledger(tmp_path / "run"), random.Random(5)
    killed = []
    while process.poll() is None and len(killed) < KILLS:
        time.sleep(0.01)  # a worker is at work for less than a second at a time
        began = any(event.kind == "round-started" for event in ledger.events())
        if began and workers(process):
            time.sleep(chance.uniform(0, 0.1))
            if not (working := workers(process)):
                continue
            victim = chance.choice(working)
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                killed.append(victim.pid)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert killed
    assert same_rounds(ledger, unbroken)
    assert not any(record.rejected for record in ledger.records())
    replaced = [event for event in ledger.events() if event.kind == "worker-replaced"]
    assert replaced
    assert all(f"{event.name}: its worker process" in output for event in replaced)
