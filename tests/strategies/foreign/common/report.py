"""What a project's server reports of its run."""

import json
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp.strategy import Result


def save_report(context: Context, result: Result) -> None:
    """Write the scores as JSON to the file that the run-config names, and the last arrays as .npz beside it."""
    out = Path(context.run_config["out"])
    report = {
        "accuracy": {number: metrics["accuracy"] for number, metrics in result.evaluate_metrics_serverapp.items()},
        "train": {number: dict(metrics) for number, metrics in result.train_metrics_clientapp.items()},
        "evaluate": {number: dict(metrics) for number, metrics in result.evaluate_metrics_clientapp.items()},
    }
    out.write_text(json.dumps(report), encoding="utf-8")
    np.savez(out.with_suffix(".npz"), **{name: array.numpy() for name, array in result.arrays.items()})
