"""trackio: a database in `trackio/` of the folder, which `trackio show` reads."""

import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from coldfusion_fl.errors import RunError
from coldfusion_fl.tracking.tracker import TrackedRun, Tracker


class TrackioTracker(Tracker):
    """Writes to trackio's storage.

    `trackio.init` would ask the Hugging Face Hub for the name of the user, may send all to a Space that a variable
    names, and only warns of a value that is lost. The storage does none of these.
    """

    package: ClassVar[str] = "trackio"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._folder = run.folder / "trackio"

    def open(self) -> None:
        """See `Tracker`."""
        os.environ["TRACKIO_DIR"] = str(self._folder)
        from trackio import utils

        # trackio reads the variable once, when it is imported.
        if self._folder != utils.TRACKIO_DIR:
            raise RunError(
                f"trackio already works in {utils.TRACKIO_DIR} in this process. Log this run in another process: "
                "`coldfusion track`."
            )

    def logged(self, step: int) -> Collection[str]:
        """See `Tracker`."""
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_logs(self.run.settings.project, self.run.name, run_id=self.run.id)
        return {name for row in rows if row["step"] == step for name in row}

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._write(step, time, dict(metrics))

    def log_image(self, step: int, name: str, file: Path) -> None:
        """See `Tracker`."""
        import trackio

        image = trackio.Image(file, caption=name)
        image._save(self.run.settings.project, self.run.name, step)
        self._write(step, file.stat().st_mtime, {f"figure/{name}": image._to_dict()})

    def close(self, succeeded: bool) -> None:
        """See `Tracker`. All is written already."""

    def _write(self, step: int, time: float, values: dict[str, Any]) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.bulk_log(
            self.run.settings.project,
            self.run.name,
            [values],
            steps=[step],
            timestamps=[datetime.fromtimestamp(time, UTC).isoformat()],
            config=dict(self.run.config),
            run_id=self.run.id,
        )
