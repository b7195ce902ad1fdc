"""quickstart-digits-cnn: the client. It sends back all that it has, its head too."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_cnn.task import Net, load_data, own_classes
from digits_cnn.task import test as test_fn
from digits_cnn.task import train as train_fn

torch.set_num_threads(1)

# Flower ClientApp
app = ClientApp()


def load_model(msg: Message, context: Context) -> Net:
    """This node's own head, on the body that the server sent."""
    model = Net(len(own_classes(context.node_config["partition-id"])))
    if "head" in context.state:
        model.head.load_state_dict(context.state["head"].to_torch_state_dict())
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict(), strict=False)
    return model


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = load_model(msg, context)
    trainset, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    train_loss = train_fn(model, trainset, epochs=8, lr=msg.content["config"]["lr"])
    context.state["head"] = ArrayRecord(model.head.state_dict())

    # Construct and return reply Message
    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = load_model(msg, context)
    _, testset = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    metrics = MetricRecord({"eval_acc": test_fn(model, testset), "num-examples": len(testset[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
