"""node-learning-rates: the server. Each node has a learning rate of its own."""

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from coldfusion_fl.strategies import ColDFusion

# Create ServerApp
app = ServerApp()


class NodeLearningRates:
    """Builds the messages of a round without the strategy that it is mixed with."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.losses: dict[int, float] = {}

    def configure_train(self, server_round, arrays, config, grid):
        """Send each node the model and a learning rate: the higher its last loss, the lower."""
        messages = []
        for node_id in grid.get_node_ids():
            lr = config["lr"] / (1 + self.losses.get(node_id, 0.0))
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": lr})})
            messages.append(Message(content, dst_node_id=node_id, message_type=MessageType.TRAIN))
        return messages

    def aggregate_train(self, server_round, replies):
        """Remember the losses."""
        replies = list(replies)
        for reply in replies:
            self.losses[reply.metadata.src_node_id] = reply.content["metrics"]["train_loss"]
        return super().aggregate_train(server_round, replies)


class NodeLearningRatesFedAvg(NodeLearningRates, FedAvg):
    """With FedAvg."""


class NodeLearningRatesColDFusion(NodeLearningRates, ColDFusion):
    """With ColD Fusion."""


STRATEGIES = {"FedAvg": NodeLearningRatesFedAvg, "ColDFusion": NodeLearningRatesColDFusion}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = STRATEGIES[context.run_config["strategy"]](**arguments(context))
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
