"""MLflow: a file store in `mlflow/` of the folder, or the server or database of the setting `uri`."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlsplit

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.tracking.metrics import name_part
from coldfusion_fl.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_RUN_TAG = "coldfusion.run-id"
# MLflow takes at most this many parameters and metrics in one request.
_MAX_PARAMS, _MAX_METRICS = 100, 1000
_MAX_VALUE = 500
# The variables of the user take precedence.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow advises databases, and requires this consent to its file store.
    "MLFLOW_ALLOW_FILE_STORE": "true",
    # MLflow would repeat a request to a server that does not answer for several minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowTracker(Tracker):
    """Logs with `MlflowClient`. A tag has the ID of the run, by which a resumed run is found again."""

    package: ClassVar[str] = "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._client: MlflowClient | None = None
        self._run_id = ""

    @classmethod
    def check(cls, settings: TrackingSettings) -> None:
        """See `Tracker`."""
        if settings.uri and not re.match(r"\w[\w+.-]*://", settings.uri):
            raise SettingsError(
                f"tracking.uri: {settings.uri!r} is no address of MLflow. Write 'http://SERVER:5000' or "
                "'sqlite:////FOLDER/mlflow.db', or leave it empty and set 'folder'.",
                ErrorCode.SETTING_INVALID,
            )
        if _has_password(settings.uri):
            raise SettingsError(
                "tracking.uri: a password in the address would be written to the run folder and to every tracker. "
                "Leave it out. For a server, set the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; "
                "for a database, those of its driver, such as PGPASSWORD.",
                ErrorCode.SETTING_INVALID,
            )
        if re.match("sqlite:///(?!/)", settings.uri):
            raise SettingsError(
                f"tracking.uri: the path in {settings.uri!r} must be absolute, with four slashes: "
                "'sqlite:////FOLDER/mlflow.db'.",
                ErrorCode.SETTING_INVALID,
            )

    def open(self) -> None:
        """See `Tracker`."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import RunStatus
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient(tracking_uri=self.run.settings.uri or self._files.as_uri())
        experiment = self._experiment_id(client)
        found = client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{self.run.id}'", max_results=1)
        tags = {_RUN_TAG: self.run.id}
        run = found[0] if found else client.create_run(experiment, run_name=self.run.name, tags=tags)
        self._run_id = run.info.run_id
        client.update_run(self._run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        self._log_config(client, run.data.params)

    @property
    def _files(self) -> Path:
        return self.run.folder / "mlflow"

    def _experiment_id(self, client: "MlflowClient") -> str:
        project = self.run.settings.project
        if found := client.get_experiment_by_name(project):
            return str(found.experiment_id)
        # A database has no place for files: MLflow would write them to the working folder.
        is_server = re.match("https?://|databricks", self.run.settings.uri)
        location = None if is_server else (self._files / "artifacts").as_uri()
        return str(client.create_experiment(project, artifact_location=location))

    def _log_config(self, client: "MlflowClient", known: Mapping[str, str]) -> None:
        """Log settings as parameters. MLflow cannot change these: those that changed at a resume become tags."""
        from mlflow.entities import Param, RunTag

        config = {name_part(key): str(value)[:_MAX_VALUE] for key, value in self.run.config.items()}
        new = [Param(key, value) for key, value in config.items() if key not in known]
        changed = [RunTag(f"resumed.{k}", value) for k, value in config.items() if known.get(k, value) != value]
        for start in range(0, len(new), _MAX_PARAMS):
            client.log_batch(self._run_id, params=new[start : start + _MAX_PARAMS])
        client.log_batch(self._run_id, tags=changed)

    def logged(self, step: int) -> Collection[str]:
        """See `Tracker`."""
        client = self._opened()
        names = client.get_run(self._run_id).data.metrics
        return {n for n in names if any(m.step == step for m in client.get_metric_history(self._run_id, n))}

    def log(self, step: int, time: float, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        values = [Metric(name, value, round(1000 * time), step) for name, value in metrics.items()]
        for start in range(0, len(values), _MAX_METRICS):
            self._opened().log_batch(self._run_id, metrics=values[start : start + _MAX_METRICS])

    def log_image(self, step: int, name: str, file: Path) -> None:
        """See `Tracker`. The image of a later step replaces that of an earlier one."""
        self._opened().log_artifact(self._run_id, str(file), "figures")

    def close(self, succeeded: bool) -> None:
        """See `Tracker`."""
        if self._client:
            self._client.set_terminated(self._run_id, "FINISHED" if succeeded else "FAILED")

    def _opened(self) -> "MlflowClient":
        assert self._client, "open() makes it"
        return self._client


def _has_password(uri: str) -> bool:
    """Whether an address has a password, before its host or, as databases also take it, as a parameter."""
    try:
        found = urlsplit(uri)
    except ValueError:  # such as half an IPv6 address; MLflow will say what is wrong
        return False
    return bool(found.password or "password" in parse_qs(found.query))
