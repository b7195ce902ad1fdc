"""own-loop: the server. The strategy has a `start` of its own, in which the learning rate decays."""

from logging import INFO

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from coldfusion_fl.strategies import ColDFusion

# Create ServerApp
app = ServerApp()


class OwnLoop:
    """A loop over the rounds, with the steps of Flower's own."""

    def start(self, grid, initial_arrays, num_rounds=3, timeout=3600, train_config=None, evaluate_fn=None):
        """Run all rounds. The learning rate is halved after each."""
        result, arrays = Result(), initial_arrays
        result.evaluate_metrics_serverapp[0] = evaluate_fn(0, arrays)
        for number in range(1, num_rounds + 1):
            config = ConfigRecord({"lr": train_config["lr"] / 2 ** (number - 1)})
            log(INFO, "[ROUND %s/%s], learning rate %s", number, num_rounds, config["lr"])

            messages = self.configure_train(number, arrays, config, grid)
            replies = grid.send_and_receive(messages, timeout=timeout)
            new_arrays, metrics = self.aggregate_train(number, replies)
            if new_arrays is not None:
                result.arrays = arrays = new_arrays
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics

            messages = self.configure_evaluate(number, arrays, ConfigRecord(), grid)
            replies = grid.send_and_receive(messages, timeout=timeout)
            if (metrics := self.aggregate_evaluate(number, replies)) is not None:
                result.evaluate_metrics_clientapp[number] = metrics
            result.evaluate_metrics_serverapp[number] = evaluate_fn(number, arrays)
        return result


class OwnLoopFedAvg(OwnLoop, FedAvg):
    """With FedAvg."""


class OwnLoopColDFusion(OwnLoop, ColDFusion):
    """With ColD Fusion."""


STRATEGIES = {"FedAvg": OwnLoopFedAvg, "ColDFusion": OwnLoopColDFusion}


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
