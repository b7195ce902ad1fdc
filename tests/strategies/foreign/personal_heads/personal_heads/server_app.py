"""personal-heads: the server. Clients send their heads too; only the bodies are averaged."""

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from coldfusion_fl.strategies import ColDFusion

# Create ServerApp
app = ServerApp()


class BodyFedAvg(FedAvg):
    """FedAvg of the bodies: what a project writes itself."""

    def aggregate_train(self, server_round, replies):
        """Leave the heads out of the replies."""
        replies = list(replies)
        for reply in replies:
            if reply.has_content():
                reply.content["arrays"] = body_of(reply.content["arrays"])
        return super().aggregate_train(server_round, replies)


def body_of(arrays):
    """The arrays that are shared."""
    return ArrayRecord({name: array for name, array in arrays.items() if name.startswith("body.")})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    if context.run_config["strategy"] == "FedAvg":
        strategy = BodyFedAvg(**arguments(context))
    else:
        strategy = ColDFusion(**arguments(context), shared_keys="body.*")
    result = strategy.start(
        grid=grid,
        initial_arrays=body_of(ArrayRecord(new_net().state_dict())),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
