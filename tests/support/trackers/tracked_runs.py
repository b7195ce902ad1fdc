"""Runs for the tests of trackers, and what is found in their files, read with the classes of each tracker."""

import json
from pathlib import Path

import numpy as np
from wandb_file import read_messages

from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, RejectionRecord, RoundRecord, UpdateFacts

# Names as another party may choose them.
HOSTILE = ("../../etc/passwd", "..", "<script>alert(1)</script>", "\x1b[31mred\n", "x" * 500, "名前", "a b/c", "")


def new_run(folder, rounds=2, **tracking):
    """A run folder with rounds and scores, whose contributors `a`, `b` and `c` and hostile ones were fused."""
    settings = {"rounds": 2, "server": {"fusion": "mean"}, "tasks": {"seen": ["a", "b"]}, "tracking": tracking}
    ledger = Ledger.create(folder, settings)
    for _ in range(rounds + 1):
        add_round(ledger)
    return ledger


def add_round(ledger, scores=True):
    number = len(ledger.rounds())
    record = RoundRecord(round=0, ended=1000.0)
    if number:
        names = ["a", "b", *HOSTILE]
        reported = {"loss": 1 / number, "seconds": 2.0, "coldfusion.round": number}
        facts = {"norm": 3.0 + number, "cosine": 0.5, "bytes": 100, "reported": reported}
        record = RoundRecord(
            round=number,
            began=1000.0 * number,
            trained=1000.0 * number + 50,
            ended=1000.0 * number + 60,
            sampled=[*names, "c"],
            contributions={name: ContributionRecord(share=0.1, **facts) for name in names},
            rejected=[RejectionRecord(name="c", reason="it is too large", facts=UpdateFacts(norm=99.0, bytes=100))],
            fused=True,
            update_norm=0.25,
        )
    ledger.save_round({"w": np.full(2, number, np.float32)}, record)
    if scores:
        tables = {
            name: {"frozen": 50.0 + number, "num-examples": 20.0, "seen": name != "u", "metric": "accuracy"}
            for name in ("a", "b", "u", *HOSTILE)
        }
        ledger.save_scores(number, tables)


def tracked_run_name(ledger):
    return f"{ledger.folder.name}-{ledger.run_id[:8]}"


# Each reader returns the values of each metric as (step, value), the settings as texts, and the names of the images.


def read_tensorboard(folder, ledger):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard" / tracked_run_name(ledger)), {"scalars": 0}).Reload()
    metrics = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    texts = found.Tensors("settings/text_summary")
    settings = json.loads(texts[-1].tensor_proto.string_val[0])
    return metrics, {key: str(value) for key, value in settings.items()}, set(found.Tags()["images"])


def read_mlflow(folder, ledger):
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("coldfusion")
    runs = client.search_runs([experiment.experiment_id])
    [run] = [run for run in runs if run.info.run_name == tracked_run_name(ledger)]
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    metrics = {name: [(value.step, value.value) for value in values] for name, values in history.items()}
    resumed = {key[8:]: value for key, value in run.data.tags.items() if key.startswith("resumed.")}
    files = client.list_artifacts(run.info.run_id, "figures")
    return metrics, run.data.params | resumed, {f"figure/{Path(file.path).stem}" for file in files}


def read_trackio(folder, ledger):
    from trackio import utils
    from trackio.sqlite_storage import SQLiteStorage

    assert folder / "trackio" == utils.TRACKIO_DIR
    name = tracked_run_name(ledger)
    assert SQLiteStorage.get_runs("coldfusion").count(name) == 1
    metrics, images = {}, set()
    for row in SQLiteStorage.get_logs("coldfusion", name):
        for key, value in row.items():
            if isinstance(value, dict):
                assert (utils.MEDIA_DIR / value["file_path"]).is_file()
                images.add(key)
            elif key not in ("step", "timestamp"):
                metrics.setdefault(key, []).append((row["step"], value))
    config = SQLiteStorage.get_run_config("coldfusion", name)
    return metrics, {key: str(value) for key, value in config.items()}, images


def read_wandb(folder, ledger):
    metrics, settings, images = {}, {}, set()
    # A second folder of the same run and second has "-1" after the ID.
    for file in sorted((folder / "wandb").glob(f"offline-run-*-{ledger.run_id}*/*.wandb")):
        for message in read_messages(file):
            for update in (*message.run.config.update, *message.config.update):
                settings[update.key or "/".join(update.nested_key)] = str(json.loads(update.value_json))
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message.history.item}
            for key, value in row.items():
                if key.startswith("figure/"):
                    images.add("/".join(key.split("/")[:2]))
                    assert not key.endswith("/path") or (file.parent / "files" / value).is_file()
                elif not key.startswith("_") and key != "round":
                    metrics.setdefault(key, []).append((row["round"], value))
    return metrics, settings, images


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio, "wandb": read_wandb}
