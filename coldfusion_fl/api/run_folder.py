"""A run folder as an object: its state, its records and its scores."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from coldfusion_fl.api.inputs import absolute, table_of
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import MODES, Settings
from coldfusion_fl.config.tables import dashed, merged
from coldfusion_fl.execution.resuming import check_has_tasks
from coldfusion_fl.model.base import resolve_folder
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_round
from coldfusion_fl.runs.intervals import SCORED
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import BaseRecord, lineage
from coldfusion_fl.runs.report import summarize
from coldfusion_fl.runs.status import RunStatus, run_status

if TYPE_CHECKING:
    from coldfusion_fl.api.executing import Log

_RECORD = ("fused", "contributions", "rejected", "update_norm", "seconds", "kept_because", "base_sha256")
_FACTS = ("norm", "cosine", "sha256", "staleness", "bytes")


class Run:
    """The folder of a run: one that goes on, that ended early, or that is complete.

    It is a path, so that the other functions take it as the run's model: `cf.finetune(Run("runs/demo"), ...)`. Nothing
    is kept in memory: each table shows what the folder holds now.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: the folder holds no run.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.ledger = Ledger(absolute(folder))
        _ = self.ledger.settings  # raises if this is not a run folder

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        status = self.status()
        done = "no base yet" if status.round is None else f"round {status.round} of {status.rounds}"
        return f"Run({str(self.folder)!r}): {status.state}, {done}"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.ledger.folder

    @property
    def model(self) -> Path:
        """The folder of the fused model, in Hugging Face format.

        Raises:
            ModelError: the run has none yet.
        """
        return resolve_folder(str(self.folder))

    @property
    def settings(self) -> Settings:
        """The settings of the run; one that `coldfusion fuse --run` began has no tasks, and defaults for the training.

        Raises:
            SettingsError: another program wrote the run.
        """
        return settings_of_round(self.ledger.settings, RoundOptions(), self.folder)

    def status(self) -> RunStatus:
        """How the run stands: its state, its round, its members and its disk space."""
        return run_status(self.ledger)

    def lineage(self, *, check: bool = False) -> list[BaseRecord]:
        """Which base came of which, by whose contributions.

        Args:
            check: check every file against its hash.

        Raises:
            RunFolderError: a record does not follow the one before it, or a file is damaged.
        """
        return lineage(self.ledger, check=check)

    @property
    def records(self) -> pd.DataFrame:
        """A row for each round: what was fused, how far the base moved, and how long it took.

        Round 0 is the first base. `Run.lineage` has the whole records.
        """
        rows = [
            {
                "round": record.round,
                "fused": record.fused,
                "contributions": len(record.contributions),
                "rejected": len(record.rejected),
                "update_norm": record.update_norm,
                "seconds": None if record.began is None else record.ended - record.began,
                "kept_because": record.kept_because,
                "base_sha256": record.base_sha256,
            }
            for record in self.ledger.records()
        ]
        return pd.DataFrame(rows, columns=["round", *_RECORD]).set_index("round")

    @property
    def contributions(self) -> pd.DataFrame:
        """A row for each contribution: its round, its contributor, its share, its size, or why it was rejected."""
        rows = []
        for record in self.ledger.records():
            for name, made in sorted(record.contributions.items()):
                rows.append(_contribution(record.round, name, made, share=made.share))
            for one in sorted(record.rejected, key=lambda one: one.name):
                rows.append(_contribution(record.round, one.name, one.facts, reason=one.reason))
        columns = ["round", "name", "share", "reason", *_FACTS, "loss", "examples"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def scores(self) -> pd.DataFrame:
        """A row for each score: round, task, whether it is seen, mode, score in points, metric, head and test rows."""
        rows = []
        for number in self.ledger.rounds():
            for task, found in sorted(self.ledger.load_scores(number).items()):
                about = {"round": number, "task": task, "seen": found.get("seen", True)}
                more = {
                    "metric": found.get("metric"),
                    "head": found.get("head"),
                    "test_rows": found.get("num-examples"),
                }
                rows += [about | {"mode": mode, "score": found[mode]} | more for mode in MODES if mode in found]
        columns = ["round", "task", "seen", "mode", "score", "metric", "head", "test_rows"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def gains(self) -> pd.DataFrame:
        """A row for each task and mode, and for the means: the scores of the first base and of the result.

        With their difference in points, and its 95 % interval.
        """
        summary, rows = summarize(self.ledger), []
        for row in summary["tasks"] + summary["means"]:
            for mode in SCORED:
                numbers = {key: row[f"{mode}-{key}"] for key in ("base", "fused", "difference", "low", "high")}
                if numbers["base"] is not None or numbers["fused"] is not None:
                    rows.append({"task": row["task"], "seen": row["seen"], "mode": mode, **numbers})
        return pd.DataFrame(rows, columns=["task", "seen", "mode", "base", "fused", "difference", "low", "high"])

    @property
    def verdict(self) -> list[str]:
        """What the gains show, in sentences."""
        return [found["sentence"] for found in summarize(self.ledger)["verdict"]]

    def resume(self, *, progress: "Log" = print, **settings: Any) -> "Run":
        """Resume the run after its last complete round, or add rounds to it.

        Args:
            progress: called with each line about the progress; None: nothing is printed.
            **settings: settings that may change, such as `rounds`, `round_timeout` or `simulation`; see
                `coldfusion_fl.runs`.

        Returns:
            The run, when it has ended.

        Raises:
            SettingsError: a setting is wrong, or the run is that of a federation, or `coldfusion fuse --run` began it.
            RunFolderError: a setting differs that the bases depend on, or another process works on the run.
            RunError: the run failed.
        """
        from coldfusion_fl.api.runs import continue_run

        check_has_tasks(self.ledger)
        table = merged(self.ledger.settings, table_of(settings)) | {"out": str(self.folder)}
        return continue_run(parse_settings(table, "resume()"), "resume()", progress)


def _contribution(
    number: int, name: str, facts: Any, share: float | None = None, reason: str | None = None
) -> dict[str, Any]:
    """A row of `Run.contributions`; the facts are an `UpdateFacts` or None."""
    known = {key: getattr(facts, key, None) for key in _FACTS}
    reported = facts.reported if facts else {}
    about = {"round": number, "name": name, "share": share, "reason": reason}
    return about | known | {"loss": reported.get("loss"), "examples": reported.get(dashed("num_examples"))}
