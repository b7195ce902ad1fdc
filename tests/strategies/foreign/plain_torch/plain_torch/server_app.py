"""plain-torch: the server."""

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments, strategy_class
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = strategy_class(context)(**arguments(context))
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
