"""What a run needs of a machine: memory for its processes, and disk space for its rounds."""

import contextlib
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from rich.filesize import decimal

from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS
from coldfusion_fl.config.components import as_component
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, RunFolderError, count
from coldfusion_fl.runs.integrity.round_folders import scan_rounds

_GIB = 1 << 30
_WORKER_NAME = "ray::"  # how the names of Ray's workers begin
_CGROUP = Path("/sys/fs/cgroup")
# The server holds the base, the sum of the contributions, and one contribution in the messages' own form and decoded.
_SERVER_COPIES = 4
# A run folder has some files beside the arrays, and the model.
_SPARE_COPIES = 1
# What a weight needs in a contribution. The header and, with int8, the scales of an array are small beside it.
_BYTES_OF_A_WEIGHT = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
# Contributors whose updates are compressed keep their errors of two rounds.
_KEPT_ERRORS = 2


def describe_memory(worker_bytes: int, workers: int, encoder_bytes: int, processes: Iterable[psutil.Process]) -> str:
    """Compare the memory that a simulation needs with that of this machine.

    Args:
        worker_bytes: what each worker needs and shares with no other process, measured by a training step.
        workers: the number of workers.
        encoder_bytes: the size of an encoder.
        processes: the run's processes so far, this one included; their memory counts as free.

    Returns:
        A sentence with the figures, for the start of the run; a warning if less is free.
    """
    resident, server = _measure(processes)
    free = available_memory() + resident
    needed = workers * worker_bytes + server + _SERVER_COPIES * encoder_bytes
    figures = (
        f"{count(workers, 'worker')} with {worker_bytes / _GIB:.1f} GiB of memory each, the server and Ray need about "
        f"{needed / _GIB:.1f} GiB"
    )
    if needed <= free:
        return f"{figures}; {free / _GIB:.1f} GiB are free."
    return (
        f"warning: {figures}, but only {free / _GIB:.1f} GiB are free. Raise 'simulation.cpus' to have fewer workers, "
        "or lower 'finetune.batch-size' or 'finetune.max-length'."
    )


def describe_traffic(settings: Settings, encoder_bytes: int, frozen_bytes: int) -> str:
    """A sentence on what a contributor receives and sends in a round, for the start of the run.

    Args:
        settings: the run's settings.
        encoder_bytes: the size of an encoder.
        frozen_bytes: the size of its frozen arrays, which are not sent.
    """
    compression = settings.server.compression
    base = encoder_bytes - frozen_bytes
    sent = base * _BYTES_OF_A_WEIGHT[compression] // 4
    frozen = f" The frozen weights, {decimal(frozen_bytes)}, are not sent." if frozen_bytes else ""
    return (
        f"In a round, a contributor receives a base of {decimal(base)}, and sends a contribution of {decimal(sent)} "
        f"({compression}).{frozen}"
    )


def check_disk(settings: Settings, encoder_bytes: int, frozen_bytes: int = 0) -> str:
    """Like `describe_disk`, but returns sentences with the folder and the figures, for the start of the run."""
    return f"Run folder: {Path(settings.out)}. It needs {describe_disk(settings, encoder_bytes, frozen_bytes)}"


def describe_disk(settings: Settings, encoder_bytes: int, frozen_bytes: int = 0) -> str:
    """Compare the disk space that the run's rounds need with what is free.

    Args:
        settings: the run's settings, with its folder; rounds that are saved there need no more space.
        encoder_bytes: the size of an encoder.
        frozen_bytes: the size of its frozen arrays, which are saved once.

    Returns:
        The figures: what is needed, and what is free.

    Raises:
        RunFolderError: less space is free.
    """
    folder, server = Path(settings.out), settings.server
    changing = encoder_bytes - frozen_bytes
    a_round = changing * copies_per_round(settings)  # with the state of the server optimizer and the average
    saved = len(scan_rounds(folder / "rounds").numbers)
    rounds = settings.rounds + 1  # and the base that the run begins with
    # One more than are kept: the oldest is removed after the newest is saved.
    kept = min(rounds, server.keep_last + 1) if server.keep_last else rounds
    copies = settings.contributors_per_round
    if server.compression != "float32":
        copies += _KEPT_ERRORS * len(settings.tasks.seen)
    frozen = 0 if saved else frozen_bytes
    needed = max(0, kept - saved) * a_round + frozen + changing * copies + encoder_bytes * _SPARE_COPIES
    free = shutil.disk_usage(_existing(folder)).free
    figures = "; ".join(_describe_saved(settings, kept, changing, a_round - changing, frozen))
    if needed > free:
        raise RunFolderError(
            f"{folder}: the run needs {decimal(needed)} of disk space, but {decimal(free)} are free. It saves "
            f"{figures}. Choose another folder with --out, free some space, or set 'server.keep-last' to keep the "
            "arrays of fewer rounds.",
            code=ErrorCode.DISK_FULL,
        )
    return f"{decimal(needed)}, and {decimal(free)} are free. It saves {figures}."


def _describe_saved(settings: Settings, bases: int, changing: int, beside: int, frozen: int) -> list[str]:
    """What a run saves, in words.

    Args:
        settings: the run's settings.
        bases: the number of bases that are on the disk together.
        changing: the size of the arrays of a base that contributors change.
        beside: the size of what is saved with each base.
        frozen: the size of the frozen arrays, if they are still to be saved.
    """
    server, kinds = settings.server, []
    if _optimizer_states(settings):
        kinds.append("the state of the server optimizer")
    if server.ema:
        kinds.append("the moving average of the bases")
    which = "" if server.keep_last else ", the first one and one for each round"
    return [
        f"{count(bases, 'base')} of {decimal(changing)} each{which}",
        *([f"with each base, {decimal(beside)} for {' and '.join(kinds)}"] if kinds else []),
        *([f"the frozen weights once, {decimal(frozen)}"] if frozen else []),
        "the model",
        "and the contributions of one round",
    ]


def copies_per_round(settings: Settings) -> int:
    """The number of encoders that a round saves: the base, the state of the server optimizer, and the average."""
    return 1 + len(_optimizer_states(settings)) + bool(settings.server.ema)


def _optimizer_states(settings: Settings) -> Sequence[str]:
    """The kinds of arrays that the server optimizer saves beside a base; each has the size of the base."""
    return as_component(settings.server.server_optimizer, SERVER_OPTIMIZERS, "server-optimizer").state_kinds


def available_memory() -> int:
    """The memory that new processes can have, in bytes."""
    available = int(psutil.virtual_memory().available)
    limit, used = _read_number(_CGROUP / "memory.max"), _read_number(_CGROUP / "memory.current")
    if not limit or used is None:
        return available
    # Files in the cache count as used, and are dropped when memory is needed.
    cached = re.search(r"^inactive_file (\d+)$", (_CGROUP / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
    return min(available, max(0, limit - used + (int(cached[1]) if cached else 0)))


def _read_number(file: Path) -> int | None:
    """The number in a file of the control group; None if there is no file or no limit."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _measure(processes: Iterable[psutil.Process]) -> tuple[int, int]:
    """The memory of processes, and the part of it that is not private to a worker, in bytes.

    What several processes share counts once (Linux: PSS). Forked workers share the libraries with the process that
    loaded them. The private memory of a worker (USS) lacks these, so that they belong to the other part.
    """
    resident, not_private = 0, 0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended
            info = process.memory_full_info()
            size = int(getattr(info, "pss", info.rss))
            private = int(min(size, info.uss) if hasattr(info, "pss") else size)
            is_worker = str(process.name()).startswith(_WORKER_NAME)
            resident += size
            not_private += size - private if is_worker else size
    return resident, not_private


def _existing(folder: Path) -> Path:
    """The folder, or the closest folder above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
