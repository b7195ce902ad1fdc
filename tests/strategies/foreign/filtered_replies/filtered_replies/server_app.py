"""filtered-replies: the server. It leaves out the reply with the highest loss."""

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments, strategy_class
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

# Create ServerApp
app = ServerApp()


def without_the_worst(base: type[FedAvg]) -> type[FedAvg]:
    """A subclass of a strategy that leaves out the reply with the highest loss."""

    class WithoutTheWorst(base):
        def aggregate_train(self, server_round, replies):
            ranked = sorted(replies, key=lambda reply: reply.content["metrics"]["train_loss"])
            return super().aggregate_train(server_round, ranked[:-1])

    return WithoutTheWorst


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = without_the_worst(strategy_class(context))(**arguments(context))
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
