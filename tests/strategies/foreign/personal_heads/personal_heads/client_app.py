"""personal-heads: the client. Its head stays in its state, and is sent along."""

import torch
from common.data import load_data
from common.net import new_net
from common.net import test as test_fn
from common.net import train as train_fn
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

# Flower ClientApp
app = ClientApp()


def load_model(msg: Message, context: Context) -> torch.nn.Module:
    """This node's own head, on the body that the server sent."""
    model = new_net()
    if "head" in context.state:
        model.head.load_state_dict(context.state["head"].to_torch_state_dict())
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict(), strict=False)
    return model


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = load_model(msg, context)
    trainset, _ = load_data(context)
    train_loss = train_fn(model, trainset, msg.content["config"]["lr"])
    context.state["head"] = ArrayRecord(model.head.state_dict())
    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = load_model(msg, context)
    _, testset = load_data(context)
    metrics = MetricRecord({"eval_acc": test_fn(model, testset), "num-examples": len(testset[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
