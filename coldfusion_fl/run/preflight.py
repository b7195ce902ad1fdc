"""What can be wrong with a run's settings, found before anything is written."""

import os

from coldfusion_fl.aggregation.pipeline import check_server_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import SettingsError


def check_words(settings: Settings, source: str) -> None:
    """Find what settings say that cannot be; reads no rows and no weights.

    Args:
        settings: the run's.
        source: where they stand, for messages.

    Raises:
        SettingsError: there are not so many cores, or the server's settings contradict each other.
        CatalogueError: a catalogue cannot be read, or has no such task.
    """
    cores = os.cpu_count() or 1
    if settings.simulation.cpus > cores:
        raise SettingsError(
            f"{source}: 'simulation.cpus' is {settings.simulation.cpus}, but this machine has {cores} cores. Lower it."
        )
    catalogue = read_catalogues(settings.tasks.catalogue, settings.tasks.data_root)
    check_server_words(settings, source)
    for name in _tasks(settings):
        catalogue[name]


def check_server_words(settings: Settings, source: str) -> None:
    """Find what [server] says that cannot be: that much alone is the affair of a federation's server.

    Raises:
        SettingsError: an operator, step or rule is unknown, or two settings contradict each other.
    """
    try:
        check_server_settings(settings)
    except SettingsError as wrong:
        raise SettingsError(f"{source}, [server]: {wrong}") from None


def check_contents(settings: Settings, source: str) -> None:
    """Find what is wrong with the rows and the base, which are all read.

    Args:
        settings: the run's.
        source: where they stand, for messages.

    Raises:
        SettingsError: a GPU is wanted where there is none.
        DataError: the rows of a task cannot be read or make no task.
        ModelError: the base cannot be loaded.
    """
    import torch

    from coldfusion_fl.data.task import load_task
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import load_encoder

    share = settings.simulation
    if share.gpus and not share.address and not torch.cuda.is_available():
        raise SettingsError(f"{source}: 'simulation.gpus' is {share.gpus}, but torch sees no GPU here.")
    for name in _tasks(settings):
        load_task(name, settings.tasks.catalogue, settings.tasks.data_root)
    load_encoder(open_base(settings.base))


def _tasks(settings: Settings) -> list[str]:
    return [*settings.contributors, *filter(None, [settings.server.server_validation])]
