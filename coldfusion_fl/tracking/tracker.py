"""What a tracker does. Each tracker has a file of its own beside this one."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from coldfusion_fl.config.settings import TrackingSettings


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker knows of a run.

    Attributes:
        id: identifies the run, however often it resumes: 32 hexadecimal digits.
        name: the name that is shown: the name of the run folder, and the beginning of `id`.
        folder: where a tracker that writes files may make its own.
        config: the settings of the run, by dotted key.
        settings: the settings of the table [tracking].
    """

    id: str
    name: str
    folder: Path
    config: Mapping[str, Any]
    settings: TrackingSettings


class Tracker(ABC):
    """Logs one run. It is used by one thread, and any of its methods may raise any exception.

    The library of a tracker takes seconds to load, so it is imported in the methods.

    Args:
        run: the run to log.

    Attributes:
        package: the module that must be installed. The extra of this package that installs it has the tracker's name.
    """

    package: ClassVar[str]

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    @classmethod  # noqa: B027
    def check(cls, settings: TrackingSettings) -> None:
        """Check what can be known before a run starts; the package is installed.

        Raises:
            SettingsError: the tracker cannot work with these settings.
        """

    @abstractmethod
    def open(self) -> None:
        """Start the tracked run, or continue it where `run.id` was logged before, and log the settings."""

    @abstractmethod
    def logged(self, step: int) -> Collection[str]:
        """The names of the metrics that the tracked run has at a step.

        A tracker that cannot tell, or that ignores a second value by itself, returns nothing.
        """

    @abstractmethod
    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """Log metrics, and write them before this returns as far as the library can do so.

        Args:
            step: the round.
            time: when the round was saved, in seconds since 1970.
            metrics: finite numbers by name, see `metrics`.
        """

    @abstractmethod
    def log_image(self, step: int, name: str, file: Path) -> None:
        """Log an image.

        Args:
            step: the round.
            name: the name of the image.
            file: a PNG file.
        """

    @abstractmethod
    def close(self, succeeded: bool) -> None:
        """End the work on the tracked run.

        Args:
            succeeded: whether the run reached its end; if not, it failed or was interrupted.
        """
