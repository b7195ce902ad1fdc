"""quickstart-digits-cnn: the server."""

import json
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.strategies import ColDFusion
from digits_cnn.task import Net, test_body

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    # Read run config
    num_rounds: int = context.run_config["num-server-rounds"]
    lr: float = context.run_config["learning-rate"]

    # Load global model
    torch.manual_seed(0)
    arrays = ArrayRecord(Net(classes=10).state_dict())

    # Initialize the strategy: of what comes back, the body alone is fused
    strategy = ColDFusion(
        contributors_per_round=3,
        min_available_nodes=context.run_config["num-nodes"],
        shared_keys="features.*",
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
    central, nodes = result.evaluate_metrics_serverapp, result.evaluate_metrics_clientapp
    fused = {name: array.numpy() for name, array in result.arrays.items()}
    report = {
        "names": sorted(fused),
        "dtypes": sorted({str(array.dtype) for array in fused.values()}),
        "batches": {name: int(array) for name, array in fused.items() if name.endswith("num_batches_tracked")},
        "accuracy": {server_round: metrics["accuracy"] for server_round, metrics in central.items()},
        "nodes-accuracy": {server_round: metrics["eval_acc"] for server_round, metrics in nodes.items()},
        "train": {server_round: dict(metrics) for server_round, metrics in result.train_metrics_clientapp.items()},
    }
    print("REPORT", json.dumps(report))
    if context.run_config["out"]:
        Path(context.run_config["out"]).write_text(json.dumps(report), encoding="utf-8")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the body on central data."""
    model = Net(classes=10)
    model.load_state_dict(arrays.to_torch_state_dict(), strict=False)
    return MetricRecord({"accuracy": test_body(model)})
