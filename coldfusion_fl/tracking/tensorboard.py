"""TensorBoard: event files in `tensorboard/` of the folder."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfusion_fl.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardTracker(Tracker):
    """Writes event files with PyTorch's `SummaryWriter`. Nothing is sent anywhere."""

    package: ClassVar[str] = "tensorboard"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._folder = run.folder / "tensorboard" / run.name
        self._writer: SummaryWriter | None = None

    def open(self) -> None:
        """See `Tracker`."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder))
        # TensorBoard renders texts as Markdown; indented lines are shown as they are.
        text = json.dumps(dict(self.run.config), indent=1)
        self._writer.add_text("settings", "\n".join(f"    {line}" for line in text.splitlines()))
        self._writer.flush()

    def logged(self, step: int) -> Collection[str]:
        """See `Tracker`."""
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        found = EventAccumulator(str(self._folder), size_guidance={SCALARS: 0}).Reload()
        return {tag for tag in found.Tags()[SCALARS] if any(event.step == step for event in found.Scalars(tag))}

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        assert self._writer, "open() makes it"
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step, walltime=time)
        self._writer.flush()

    def log_image(self, step: int, name: str, file: Path) -> None:
        """See `Tracker`."""
        import numpy as np
        from PIL import Image

        assert self._writer, "open() makes it"
        with Image.open(file) as image:
            self._writer.add_image(f"figure/{name}", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self, succeeded: bool) -> None:
        """See `Tracker`."""
        if self._writer:
            self._writer.close()
            self._writer = None
