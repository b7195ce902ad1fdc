"""quickstart-plain-numpy: the client."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from plain_numpy.task import load_data
from plain_numpy.task import test as test_fn
from plain_numpy.task import train as train_fn

# Flower ClientApp
app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = {name: array.numpy() for name, array in msg.content["arrays"].items()}
    data = load_data(context.node_config["partition-id"])
    model = train_fn(model, data, steps=10, lr=msg.content["config"]["lr"])

    # Construct and return reply Message
    arrays = ArrayRecord({name: Array(array) for name, array in model.items()})
    metrics = MetricRecord({"train_r2": test_fn(model, data), "num-examples": len(data[0])})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = {name: array.numpy() for name, array in msg.content["arrays"].items()}
    data = load_data(context.node_config["partition-id"])
    metrics = MetricRecord({"eval_r2": test_fn(model, data), "num-examples": len(data[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
