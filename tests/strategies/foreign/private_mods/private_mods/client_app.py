"""private-mods: the client, with mods of Flower and one of its own."""

import time

from common.data import load_data
from common.net import Net
from common.net import test as test_fn
from common.net import train as train_fn
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import arrays_size_mod, message_size_mod


def timing_mod(msg: Message, context: Context, call_next):
    """Add the seconds that the client takes to its metrics."""
    started = time.monotonic()
    reply = call_next(msg, context)
    if reply.has_content():
        reply.content["metrics"]["seconds"] = time.monotonic() - started
    return reply


# Flower ClientApp
app = ClientApp(mods=[message_size_mod, arrays_size_mod, timing_mod])


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    trainset, _ = load_data(context)
    train_loss = train_fn(model, trainset, msg.content["config"]["lr"])

    # Construct and return reply Message
    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    _, testset = load_data(context)
    metrics = MetricRecord({"eval_acc": test_fn(model, testset), "num-examples": len(testset[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
