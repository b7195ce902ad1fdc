"""quickstart-logistic: the server."""

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.strategies import ColDFusion
from logistic.task import create_model, get_model_params, load_central, set_model_params

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    # Read run config
    num_rounds: int = context.run_config["num-server-rounds"]

    # Load global model
    arrays = ArrayRecord(get_model_params(create_model()))

    # Initialize the strategy
    strategy = ColDFusion(contributors_per_round=3, min_available_nodes=4)

    # Start strategy
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        num_rounds=num_rounds,
        evaluate_fn=global_evaluate,
    )

    # Say what came of it
    central, nodes = result.evaluate_metrics_serverapp, result.evaluate_metrics_clientapp
    report = {
        "strategy": type(strategy).__name__,
        "names": sorted(result.arrays),
        "dtypes": sorted({array.dtype for array in result.arrays.values()}),
        "accuracy": {server_round: metrics["accuracy"] for server_round, metrics in central.items()},
        "nodes-accuracy": {server_round: metrics["eval_acc"] for server_round, metrics in nodes.items()},
    }
    print("REPORT", json.dumps(report))
    if context.run_config["out"]:
        Path(context.run_config["out"]).write_text(json.dumps(report), encoding="utf-8")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the model on central data."""
    model = create_model()
    set_model_params(model, arrays.to_numpy_ndarrays())
    return MetricRecord({"accuracy": model.score(*load_central())})
