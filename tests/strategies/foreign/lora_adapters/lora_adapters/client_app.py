"""lora-adapters: the client. It has no function for evaluate messages."""

from common.data import load_data
from common.net import new_net
from common.net import train as train_fn
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from lora_adapters.task import LoraNet, adapters

# Flower ClientApp
app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Train the adapters on local data."""
    model = new_net(LoraNet)
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict(), strict=False)
    trainset, _ = load_data(context)
    train_loss = train_fn(model, trainset, msg.content["config"]["lr"])
    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(adapters(model)), "metrics": metrics})
    return Message(content=content, reply_to=msg)
