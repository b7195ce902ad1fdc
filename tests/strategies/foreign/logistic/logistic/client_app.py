"""quickstart-logistic: the client."""

import warnings

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from logistic.task import create_model, get_model_params, load_data, set_model_params

# Flower ClientApp
app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = create_model()
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    trainset, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    # One pass does not converge, and need not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*trainset)

    # Construct and return reply Message
    metrics = MetricRecord({"train_acc": model.score(*trainset), "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(get_model_params(model)), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = create_model()
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    _, testset = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    metrics = MetricRecord({"eval_acc": model.score(*testset), "num-examples": len(testset[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
