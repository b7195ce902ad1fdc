"""Kill -9 at random moments, and go on."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import toy_run

from coldfusion_fl.runs.ledger import Ledger

ROUNDS = 12
MOMENTS = 12


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a run in a process of its own; forked from a server that has loaded all modules, which takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_run"])
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(toy_run.__file__).parent), path]))

    def start(folder):
        process = context.Process(target=toy_run.run, args=(folder, ROUNDS))
        process.start()
        return process

    yield start
    if path is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = path


def finish(start, folder):
    process = start(folder)
    process.join(120)
    assert process.exitcode == 0
    return Ledger(folder)


def wait_for_its_folder(folder, process):
    while not (folder / "run.json").exists():
        assert process.exitcode is None
        time.sleep(0.005)


def bytes_of(ledger):
    """The hash of each round's base, step state, average and scores; the records hold times, which differ."""
    found = {}
    for number in ledger.rounds():
        ledger.verify(number)
        for name, digest in ledger._checksums(number).items():
            if name != "record.json":
                found[number, name] = digest
        assert not number or ledger.record(number).previous_record_sha256 == ledger.record_hash(number - 1)
    return found


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    """An unbroken run, and how long it took from its folder's first file to its end."""
    folder = tmp_path_factory.mktemp("kill") / "unbroken"
    process = start(folder)
    wait_for_its_folder(folder, process)
    began = time.monotonic()
    process.join(120)
    assert process.exitcode == 0
    return bytes_of(Ledger(folder)), time.monotonic() - began


def kill_once(start, folder, delay):
    """Kill a run so many seconds after its folder's first file; the last durable round and what lay half-written."""
    process = start(folder)
    wait_for_its_folder(folder, process)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)  # 0: the run had just ended
    return max(Ledger(folder).rounds(), default=None), [path.name for path in folder.rglob(".*partial")]


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(start, unbroken, tmp_path, capsys):
    expected, seconds = unbroken
    draw = random.Random(0)
    delays = [draw.uniform(0, seconds) for _ in range(MOMENTS)]

    def kill_and_resume(number):
        folder = tmp_path / str(number)
        last, partial = kill_once(start, folder, delays[number])
        assert bytes_of(finish(start, folder)) == expected, (number, last, partial)
        left = [path.name for path in folder.rglob(".*partial")]
        shutil.rmtree(folder)
        return last, partial, left

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(kill_and_resume, range(MOMENTS)))
    with capsys.disabled():
        print()
        for number, (last, partial, _) in enumerate(outcomes):
            print(f"killed after {delays[number]:.3f} s: last whole round {last}, half-written: {partial or 'nothing'}")
    assert len({last for last, *_ in outcomes}) > 4  # the moments are spread over the run
    assert not any(left for *_, left in outcomes)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(start, unbroken, tmp_path):
    expected, seconds = unbroken
    draw = random.Random(1)
    for _ in range(4):
        kill_once(start, tmp_path / "run", draw.uniform(0, seconds / 3))
    assert bytes_of(finish(start, tmp_path / "run")) == expected
