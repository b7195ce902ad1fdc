"""The strategy that the run-config names, with the arguments that make the two alike."""

from flwr.app import Context
from flwr.serverapp.strategy import FedAvg

from coldfusion_fl.strategies import ColDFusion

BASES = {"FedAvg": FedAvg, "ColDFusion": ColDFusion}


def strategy_class(context: Context) -> type[FedAvg]:
    """The class that the run-config names."""
    return BASES[context.run_config["strategy"]]


def arguments(context: Context) -> dict:
    """The arguments of that class: all nodes train, and are weighted by their examples."""
    weighting = {} if context.run_config["strategy"] == "FedAvg" else {"fusion": "weighted-mean"}
    return {"min_available_nodes": context.run_config["num-nodes"], **weighting}
