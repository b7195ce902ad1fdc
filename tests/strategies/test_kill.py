"""Kill -9 at random moments, and go on."""

import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coldfusion_fl.run.ledger import Ledger

ROUNDS = 12
MOMENTS = 20
TOY = [sys.executable, str(Path(__file__).parents[1] / "support" / "toy_run.py")]


def start(folder):
    return subprocess.Popen(
        [*TOY, str(folder), str(ROUNDS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(folder):
    process = start(folder)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return Ledger(folder)


def wait_for_its_folder(folder, process):
    while not (folder / "run.json").exists():
        assert process.poll() is None, process.stderr.read()
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
def whole(tmp_path_factory):
    """An unbroken run, and how long it took from its folder's first file to its end."""
    folder = tmp_path_factory.mktemp("kill") / "whole"
    process = start(folder)
    wait_for_its_folder(folder, process)
    began = time.monotonic()
    assert process.wait(120) == 0
    return bytes_of(Ledger(folder)), time.monotonic() - began


def kill_once(folder, delay):
    """Kill a run so many seconds after its folder's first file; the last durable round and what lay half-written."""
    process = start(folder)
    wait_for_its_folder(folder, process)
    time.sleep(delay)
    process.kill()
    process.wait()
    return max(Ledger(folder).rounds(), default=None), [path.name for path in folder.rglob(".*partial")]


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(whole, tmp_path, capsys):
    expected, seconds = whole
    draw = random.Random(0)
    delays = [draw.uniform(0, seconds) for _ in range(MOMENTS)]

    def break_and_mend(number):
        folder = tmp_path / str(number)
        last, partial = kill_once(folder, delays[number])
        assert bytes_of(finish(folder)) == expected, (number, last, partial)
        left = [path.name for path in folder.rglob(".*partial")]
        shutil.rmtree(folder)
        return last, partial, left

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(break_and_mend, range(MOMENTS)))
    with capsys.disabled():
        print()
        for number, (last, partial, _) in enumerate(outcomes):
            print(f"killed after {delays[number]:.3f} s: last whole round {last}, half-written: {partial or 'nothing'}")
    assert len({last for last, *_ in outcomes}) > 4  # the moments are spread over the run
    assert not any(left for *_, left in outcomes)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(whole, tmp_path):
    expected, seconds = whole
    draw = random.Random(1)
    for _ in range(4):
        kill_once(tmp_path / "run", draw.uniform(0, seconds / 3))
    assert bytes_of(finish(tmp_path / "run")) == expected
