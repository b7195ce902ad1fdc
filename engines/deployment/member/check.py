"""Checks everything that a member needs, before it joins."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from coldfusion_fl.arrays.encoder import size_in_bytes
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.engines.deployment.member.server_check import Finding, check_server
from coldfusion_fl.engines.deployment.member.settings import Member, read_member
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.preflight.resources import available_memory

_GIB = 1 << 30
# The SuperNode holds copies of the base and of the contribution, beside the memory of the training.
_COPIES = 4
# No member knows the base of a run before the run asks it, and the server may have no run now.
BASE_OF_A_RUN = (
    'whether the base has the frozen embeddings of a run. A run with freeze = "embeddings", which is the default, '
    "compares them when it asks this member, and excludes it if they differ. Then a line that begins with PROBLEM says "
    "so on the terminal of `coldfusion member start` and in flower/messages.log in the member's folder. Ask the "
    "server's administrator for the base of the run. "
    'A run with freeze = "nothing" compares nothing.'
)


def check_member(folder: Path) -> Iterator[Finding]:
    """Run all checks.

    Args:
        folder: the member's folder.

    Yields:
        The result of each check. Checks that depend on a failed one are left out.
    """
    try:
        member = read_member(folder)
    except ColdFusionError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, f"{member.name}, task '{member.task}', server {member.server}")
    task: Task | None = None
    try:
        task = load_task(member.task, member.catalogue, member.data_root)
        yield Finding("data", True, "; ".join([_count_rows(task), *task.report.lines(brief=True)]))
        yield _check_labels(task)
    except ColdFusionError as error:
        yield Finding("data", False, str(error))
    # Without rows the base can still be checked, and the server without either.
    yield from _check_model(member, task)
    yield from check_server(member)


def _count_rows(task: Task) -> str:
    counts = (
        f"{len(rows):,} {name}"
        for name, rows in (("training", task.train), ("development", task.validation), ("test", task.test))
    )
    return f"{', '.join(counts)} rows"


def _check_labels(task: Task) -> Finding:
    if not task.classes:
        return Finding("labels", True, "numbers")
    counts = Counter(int(label) for label in task.train.labels)
    missing = [name for number, name in enumerate(task.classes) if not counts[number]]
    if missing:
        return Finding(
            "labels", False, f"no training row is labelled {', '.join(missing)}: remove the class, or add rows."
        )
    rarest = min(counts, key=counts.__getitem__)
    return Finding(
        "labels",
        True,
        f"{len(task.classes)} classes; the rarest, '{task.classes[rarest]}', has {counts[rarest]:,} training rows",
    )


def _check_model(member: Member, task: Task | None) -> Iterator[Finding]:
    from coldfusion_fl.config.settings import FinetuneSettings
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import load_encoder
    from coldfusion_fl.preflight.task_check import TaskChecker, peak_memory

    # The settings of a run come from the server. With its defaults, this member needs what most runs need.
    settings = FinetuneSettings()
    try:
        base = open_base(member.base)
        encoder = load_encoder(base)
    except ColdFusionError as error:
        yield Finding("base", False, str(error))
        return
    size = size_in_bytes(encoder)
    yield Finding("base", True, "; ".join([f"{member.base}, an encoder of {size / 1e6:,.0f} MB", *base.notes]))
    if task is None:
        return
    try:
        done = TaskChecker(base, encoder, settings).check(task)
    except ColdFusionError as error:
        yield Finding("training", False, str(error))
        return
    needed = peak_memory() + _COPIES * size
    free = available_memory() + psutil.Process().memory_info().rss
    details = (
        f"a step and a score with {done.rows} texts of at most {done.longest} tokens took {done.seconds:.1f} s. "
        f"Training needs about {needed / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are free"
    )
    if needed >= free:
        details += ". Free some memory, or join from a larger machine."
    yield Finding("training", needed < free, "; ".join([details, *done.notes]))
