"""Weights & Biases: the account of the user, or, with `offline`, files in `wandb/` of the folder."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    import wandb

_STEP = "round"  # the metric that is the x axis
_OFFLINE = ("offline", "dryrun", "disabled")
_FINISH_TIMEOUT = 30.0  # seconds


class WandbTracker(Tracker):
    """Logs with `wandb.init`.

    It sends settings, metrics, figures, and the host's name and platform; not code, output or hardware.
    """

    package: ClassVar[str] = "wandb"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._run: wandb.Run | None = None

    @classmethod
    def check(cls, settings: TrackingSettings) -> None:
        """See `Tracker`."""
        if settings.offline or os.environ.get("WANDB_MODE") in _OFFLINE:
            return
        import wandb

        if not wandb.api.api_key:
            raise SettingsError(
                "tracking.to: W&B is not logged in on this machine. Run `wandb login`, or set 'offline' in [tracking] "
                "to true and upload the run later with `wandb sync`.",
                ErrorCode.SETTINGS_CONFLICT,
            )

    def open(self) -> None:
        """See `Tracker`."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self.run.settings.project,
            id=self.run.id,
            name=self.run.name,
            dir=str(self.run.folder),
            mode="offline" if self.run.settings.offline else None,
            resume="allow",
            config=dict(self.run.config),
            allow_val_change=True,
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                finish_timeout=_FINISH_TIMEOUT,
                quiet=True,
            ),
        )
        # W&B drops values of a step before the last one. With a step of our own, a resumed run loses nothing.
        self._run.define_metric("*", step_metric=_STEP)

    def logged(self, step: int) -> Collection[str]:
        """See `Tracker`. Only the server knows. A second value of a round is shown in the place of the first."""
        return ()

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        assert self._run, "open() makes it"
        self._run.log({_STEP: step, **metrics})

    def log_image(self, step: int, name: str, file: Path) -> None:
        """See `Tracker`."""
        import wandb

        assert self._run, "open() makes it"
        self._run.log({_STEP: step, f"figure/{name}": wandb.Image(str(file))})

    def close(self, succeeded: bool) -> None:
        """See `Tracker`."""
        import wandb

        if self._run:
            self._run.finish(exit_code=0 if succeeded else 1)
            self._run = None
            # `finish` returns before W&B's process has written its file, and the process of a run may end at once.
            wandb.teardown()
