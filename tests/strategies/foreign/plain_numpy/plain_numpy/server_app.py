"""quickstart-plain-numpy: the server."""

import json
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.strategies import ColDFusion
from plain_numpy.task import create_model, load_data, test

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    # Read run config
    num_rounds: int = context.run_config["num-server-rounds"]
    lr: float = context.run_config["learning-rate"]

    # Load global model
    arrays = ArrayRecord({name: Array(array) for name, array in create_model().items()})

    # Initialize the strategy: one of the nodes cannot be trusted
    strategy = ColDFusion(
        min_contributions=3,
        min_available_nodes=context.run_config["num-nodes"],
        fusion="trimmed-mean(cut=0.2)",
        server_optimizer="nesterov(learning-rate=0.7, momentum=0.5)",
        screening="size, direction(min-cosine=-0.5)",
    )

    # Start strategy
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": lr}),
        num_rounds=num_rounds,
        evaluate_fn=global_evaluate,
    )

    # Say what came of it
    report = {
        "shapes": {name: list(array.numpy().shape) for name, array in result.arrays.items()},
        "dtypes": sorted({array.dtype for array in result.arrays.values()}),
        "r2": {n: metrics["r2"] for n, metrics in result.evaluate_metrics_serverapp.items()},
        "nodes-r2": {n: metrics["eval_r2"] for n, metrics in result.evaluate_metrics_clientapp.items()},
        "train": {n: dict(metrics) for n, metrics in result.train_metrics_clientapp.items()},
    }
    print("REPORT", json.dumps(report))
    if context.run_config["out"]:
        Path(context.run_config["out"]).write_text(json.dumps(report), encoding="utf-8")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the model on central data."""
    return MetricRecord({"r2": test({name: array.numpy() for name, array in arrays.items()}, load_data(-1, rows=500))})
