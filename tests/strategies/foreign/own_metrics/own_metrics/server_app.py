"""own-metrics: the server. It wants the worst node's metrics."""

from common.net import central_evaluate, new_net
from common.report import save_report
from common.strategies import arguments, strategy_class
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

# Create ServerApp
app = ServerApp()


def highest_loss(contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """The highest loss, and the number of all examples."""
    metrics = [next(iter(content.metric_records.values())) for content in contents]
    return MetricRecord(
        {"max_loss": max(m["train_loss"] for m in metrics), "examples": sum(m[weighted_by_key] for m in metrics)}
    )


def lowest_accuracy(contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """The lowest accuracy."""
    return MetricRecord({"min_acc": min(content["metrics"]["eval_acc"] for content in contents)})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = strategy_class(context)(
        **arguments(context), train_metrics_aggr_fn=highest_loss, evaluate_metrics_aggr_fn=lowest_accuracy
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=central_evaluate(),
    )
    save_report(context, result)
