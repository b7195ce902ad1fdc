"""The trackers by name, and the check of the table [tracking] before a run."""

from collections.abc import Mapping

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.extras import require
from coldfusion_fl.tracking.mlflow import MlflowTracker
from coldfusion_fl.tracking.tensorboard import TensorBoardTracker
from coldfusion_fl.tracking.tracker import Tracker
from coldfusion_fl.tracking.trackio import TrackioTracker
from coldfusion_fl.tracking.wandb import WandbTracker

TRACKERS: Mapping[str, type[Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}


def check_tracking(settings: TrackingSettings) -> None:
    """Check what can be known of the trackers before a run.

    Args:
        settings: of the table [tracking].

    Raises:
        SettingsError: a tracker is unknown, its package is not installed, or it cannot work with these settings.
    """
    for name in settings.to:
        if name not in TRACKERS:
            raise SettingsError(
                f"tracking.to: unknown tracker '{name}'.{did_you_mean(name, TRACKERS)}", ErrorCode.COMPONENT_UNKNOWN
            )
        require(f"tracking.to = '{name}'", TRACKERS[name].package)
        TRACKERS[name].check(settings)
