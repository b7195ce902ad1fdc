"""What a run needs of memory and disk, and what is said of it."""

import os
import re
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from rich.filesize import decimal

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.preflight import resources
from coldfusion_fl.preflight.resources import check_disk, describe_memory, describe_traffic

GIB = 1 << 30
MB = 1_000_000


@pytest.mark.parametrize(("free", "warns"), [(20, False), (3, True)])
def test_memory_that_is_short_is_a_warning_with_the_figures_and_the_settings_that_help(monkeypatch, free, warns):
    monkeypatch.setattr(resources, "available_memory", lambda: free * GIB)
    line = describe_memory(2 * GIB, 4, 90 * MB, [])
    assert "4 workers with 2.0 GiB" in line
    assert f"{free}.0 GiB are free" in line
    assert line.startswith("warning") == ("simulation.cpus" in line) == ("finetune.batch-size" in line) == warns


def test_the_runs_own_processes_do_not_count_as_used(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 0)
    own = psutil.Process()
    assert f"{resources._measure([own])[0] / GIB:.1f} GiB are free" in describe_memory(2 * GIB, 1, 0, [own])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports what processes share")
def test_memory_that_processes_share_counts_once():
    block = b"x" * (GIB // 4)
    child = get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    try:
        both, _ = resources._measure(psutil.Process(number) for number in (os.getpid(), child.pid))
    finally:
        child.kill()
        child.join()
    assert len(block) < both < psutil.Process().memory_info().rss + len(block) / 2


def become_worker(ready):
    Path("/proc/self/comm").write_text("ray::worker")
    ready.put(True)
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports what processes share")
def test_memory_that_forked_workers_share_counts_once_beside_their_private_memory(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 0)
    block = b"x" * (GIB // 2)
    shared = len(block)
    context = get_context("fork")
    ready = context.SimpleQueue()
    workers = [context.Process(target=become_worker, args=(ready,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        for _ in workers:
            ready.get()
        line = describe_memory(GIB, 4, 0, [psutil.Process(), *(psutil.Process(worker.pid) for worker in workers)])
        own = psutil.Process().memory_info().rss
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    needed = float(re.search(r"need about ([\d.]+) GiB", line)[1])
    assert (4 * GIB + shared) / GIB - 0.05 <= needed <= (4 * GIB + own) / GIB + 0.05


def settings(folder, **changes):
    server = {"keep_last": changes.pop("keep_last", 0), **changes.pop("server", {})}
    table = {"base": "x", "out": str(folder), "tasks": {"seen": ["a", "b"]}, "contributors_per_round": 2, **changes}
    return Settings(**table, server=server)


@pytest.mark.parametrize(
    ("changes", "rounds", "beside", "what"),
    [
        ({"rounds": 9}, 10, 0, ""),
        ({"rounds": 9, "keep_last": 2}, 3, 0, ""),
        (
            {"rounds": 9, "server": {"server_optimizer": "nesterov()", "ema": 0.7}},
            10,
            180,
            "the state of the server optimizer and the moving average of the bases",
        ),
        ({"rounds": 9, "server": {"server_optimizer": "adam()"}}, 10, 180, "the state of the server optimizer"),
        ({"rounds": 9, "server": {"ema": 0.7}}, 10, 90, "the moving average of the bases"),
    ],
)
def test_the_disk_space_of_all_rounds_is_stated_with_the_folder(tmp_path, changes, rounds, beside, what):
    line = check_disk(settings(tmp_path / "runs" / "mine", **changes), 90 * MB)
    assert str(tmp_path / "runs" / "mine") in line
    assert f"{rounds} bases of 90.0 MB each" in line
    assert (", the first one and one for each round;" in line) == (rounds == 10)
    assert (f"; with each base, {beside}.0 MB for {what};" in line) if what else ("with each base" not in line)
    assert decimal((rounds * (90 + beside) + 3 * 90) * MB) in line


def test_the_errors_of_compressed_updates_need_space_too(tmp_path):
    sizes = {}
    for compression in ("float32", "int8"):
        sizes[compression] = check_disk(settings(tmp_path, rounds=1, server={"compression": compression}), 90 * MB)
    assert decimal((2 + 3) * 90 * MB) in sizes["float32"]
    assert decimal((2 + 3 + 2 * 2) * 90 * MB) in sizes["int8"]


def test_frozen_arrays_are_saved_once_and_not_sent(tmp_path):
    line = check_disk(settings(tmp_path, rounds=9), 90 * MB, 50 * MB)
    assert "10 bases of 40.0 MB each" in line
    assert "the frozen weights once, 50.0 MB" in line
    assert decimal((10 * 40 + 50 + 2 * 40 + 90) * MB) in line


@pytest.mark.parametrize(
    ("compression", "frozen", "base", "sent"),
    [("float32", 0, 90, 90), ("int8", 0, 90, 22.5), ("bfloat16", 50, 40, 20), ("int8", 50, 40, 10)],
)
def test_what_a_round_sends_each_way_is_stated(tmp_path, compression, frozen, base, sent):
    line = describe_traffic(settings(tmp_path, server={"compression": compression}), 90 * MB, frozen * MB)
    assert decimal(base * MB) in line and f"{decimal(int(sent * MB))} ({compression})" in line
    assert (f"{decimal(frozen * MB)}, are not sent" in line) == bool(frozen)


def test_rounds_that_are_saved_need_no_more_space(tmp_path):
    for number in range(9):
        (tmp_path / "rounds" / f"{number:03d}").mkdir(parents=True)
        (tmp_path / "rounds" / f"{number:03d}" / "record.json").touch()
    assert "needs 360.0 MB" in check_disk(settings(tmp_path, rounds=9), 90 * MB)


def test_a_run_that_would_fill_the_disk_is_rejected(tmp_path):
    with pytest.raises(RunFolderError) as error:
        check_disk(settings(tmp_path, rounds=1000), 10**15)
    assert error.value.code == ErrorCode.DISK_FULL
    assert "server.keep-last" in str(error.value)
