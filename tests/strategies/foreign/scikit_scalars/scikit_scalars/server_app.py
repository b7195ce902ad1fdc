"""scikit-scalars: the server."""

from common.data import load_central
from common.report import save_report
from common.strategies import arguments, strategy_class
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from scikit_scalars.task import create_model, get_model_params, set_model_params

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = strategy_class(context)(**arguments(context))
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(get_model_params(create_model())),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=global_evaluate,
    )
    save_report(context, result)


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the model on central data."""
    model = set_model_params(create_model(), arrays.to_numpy_ndarrays())
    return MetricRecord({"accuracy": model.score(*load_central())})
