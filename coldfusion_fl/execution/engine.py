"""What executes a run: an engine, found by its entry point, so that the core needs no engine's package.

A package registers an engine in its pyproject.toml::

    [project.entry-points."coldfusion.engines"]
    simulation = "coldfusion_fl.engines.simulation_engine:SimulationEngine"
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import ClassVar

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.runs.ledger import Ledger

_GROUP = "coldfusion.engines"

# Called with a line about the work so far.
Progress = Callable[[str], None]


class Engine(ABC):
    """Executes a run in a process of its own, the run process.

    The command line creates an engine too, to learn how to start the run process. So the module and the constructor
    of an engine must be quick: libraries that take long to load are imported in `check`.

    Attributes:
        title: the engine's name in messages, with an article.
        environment: environment variables of the run process; those of the user take precedence.
        may_linger: whether the run process may be ended by force once the run has finished or failed.
    """

    title: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {}
    may_linger: ClassVar[bool] = False

    def set_up_process(self) -> None:  # noqa: B027
        """Set up the run process: signal handlers, working folder. Called first."""

    def prepare(self, settings: Settings) -> None:  # noqa: B027
        """Start services that take time, without waiting for them. Called before `check`.

        Args:
            settings: the run's settings, not checked yet.
        """

    @abstractmethod
    def check(self, settings: Settings, source: str, progress: Progress) -> list[str]:
        """Check everything that a run with these settings needs.

        Args:
            settings: the run's settings.
            source: the file they were read from, for messages.
            progress: called with a line about the work so far.

        Returns:
            Lines for the user: what was found, and what the run needs.

        Raises:
            ColdFusionError: a setting, a task, the base or a service is not as it must be.
        """

    @abstractmethod
    def run(self, settings: Settings, ledger: Ledger) -> None:
        """Execute the run to its end.

        Args:
            settings: the run's settings.
            ledger: the run folder.

        Raises:
            ColdFusionError: the reason why the run ended early.
        """


def load_engine(name: str, arguments: Sequence[str] = ()) -> Engine:
    """Create an engine by the name of its entry point.

    Args:
        name: the name, such as `simulation`.
        arguments: of the engine's constructor.

    Raises:
        SettingsError: no installed package registers such an engine.
    """
    found = metadata.entry_points(group=_GROUP)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise SettingsError(
            f"no engine '{name}' is installed. Installed engines: {known}.", code=ErrorCode.SETTING_UNKNOWN
        )
    engine: Engine = found[name].load()(*arguments)
    return engine
