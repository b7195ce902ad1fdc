"""Checks of a run's settings, before anything is written."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coldfusion_fl.aggregation.pipeline import check_server_settings
from coldfusion_fl.arrays.encoder import Encoder, size_in_bytes
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import ErrorCode, SettingsError, count
from coldfusion_fl.tracking.registry import check_tracking

if TYPE_CHECKING:
    from coldfusion_fl.model.base import Base


def check_settings(settings: Settings, source: str) -> None:
    """Check what takes no time: everything but the rows and the weights.

    Args:
        settings: the run's settings.
        source: the file they were read from, for messages.

    Raises:
        SettingsError: this machine has too few cores, or settings of [server] are wrong.
        CatalogueError: a catalogue cannot be read, or a task is unknown.
    """
    cores = os.cpu_count() or 1
    if settings.simulation.cpus > cores:
        raise SettingsError(
            f"{source}: 'simulation.cpus' is {settings.simulation.cpus}, but this machine has {count(cores, 'core')}. "
            "Lower it."
        )
    catalogue = read_catalogues(settings.tasks.catalogue, settings.tasks.data_root)
    check_server_table(settings, source)
    for name in _tasks(settings):
        catalogue[name]


def check_server_table(settings: Settings, source: str) -> None:
    """Check the settings of [server] and [tracking]; in a federation, the server needs no others.

    Args:
        settings: the run's settings.
        source: the file they were read from, for messages.

    Raises:
        SettingsError: an operator, server optimizer, screening rule or tracker is unknown, the package of a tracker is
            not installed, or settings contradict each other.
    """
    try:
        check_server_settings(settings)
    except SettingsError as error:
        raise SettingsError(f"{source}, [server]: {error}", code=error.code) from None
    try:
        check_tracking(settings.tracking)
    except SettingsError as error:
        raise SettingsError(f"{source}, {error}", code=error.code) from None


@dataclass(frozen=True)
class CheckedBase:
    """What the check of a base found.

    Attributes:
        encoder_bytes: the size of its encoder.
        frozen_bytes: the size of those arrays of it that the run does not change.
        notes: sentences about the base, for the user.
    """

    encoder_bytes: int
    frozen_bytes: int
    notes: tuple[str, ...]


def check_server_side(settings: Settings, source: str) -> CheckedBase:
    """Check what the server needs: the base, and the task of the server validation. This takes seconds.

    Args:
        settings: the run's settings.
        source: the file they were read from, for messages.

    Raises:
        SettingsError: the settings ask for a GPU, and there is none.
        DataError: the rows of the task cannot be read, or do not make a task.
        ModelError: the base cannot be loaded, a model cannot be written like it, or it has nothing to freeze.
    """
    from coldfusion_fl.model.frozen_weights import frozen_arrays

    base, encoder = _load_checked(settings, source)
    frozen = frozen_arrays(base, encoder, settings.finetune.freeze)
    return CheckedBase(size_in_bytes(encoder), size_in_bytes(frozen), base.notes)


def check_contents(settings: Settings, source: str) -> None:
    """Check the base and all tasks in this process. A simulation has its workers check the tasks, side by side.

    Raises:
        ColdFusionError: as `check_server_side`, `load_task` and `TaskChecker.check`.
    """
    from coldfusion_fl.data.task import load_task
    from coldfusion_fl.preflight.task_check import TaskChecker

    checker = TaskChecker(*_load_checked(settings, source), settings.finetune)
    for name in settings.task_names:
        checker.check(load_task(name, settings.tasks.catalogue, settings.tasks.data_root))


def _load_checked(settings: Settings, source: str) -> "tuple[Base, Encoder]":
    """The base and its encoder, after the checks of `check_server_side`."""
    import torch

    from coldfusion_fl.data.task import load_task
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import load_encoder
    from coldfusion_fl.model.export import check_export

    share = settings.simulation
    if share.gpus and not share.address and not torch.cuda.is_available():
        raise SettingsError(
            f"{source}: 'simulation.gpus' is {share.gpus}, but PyTorch finds no GPU on this machine. "
            "Set it to 0, or install a CUDA build of PyTorch.",
            code=ErrorCode.GPU_MISSING,
        )
    if settings.server.server_validation:
        load_task(settings.server.server_validation, settings.tasks.catalogue, settings.tasks.data_root)
    base = open_base(settings.base)
    encoder = load_encoder(base)
    check_export(base)
    return base, encoder


def _tasks(settings: Settings) -> list[str]:
    return [*settings.task_names, *filter(None, [settings.server.server_validation])]
