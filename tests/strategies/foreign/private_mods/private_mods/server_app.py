"""private-mods: the server, with clipping and a little noise."""

import numpy as np
from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments, strategy_class
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    np.random.seed(0)  # the wrapper's noise comes from here
    strategy = DifferentialPrivacyServerSideFixedClipping(
        strategy_class(context)(**arguments(context)),
        noise_multiplier=0.01,
        clipping_norm=2.0,
        num_sampled_clients=context.run_config["num-nodes"],
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
