"""The client of the projects that differ in their server, their model or their mods alone."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from common.data import load_data
from common.net import Net
from common.net import test as test_fn
from common.net import train as train_fn


def client_app(model_class=Net, mods=None) -> ClientApp:
    """The Flower ClientApp that trains and evaluates a model."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(msg: Message, context: Context):
        """Train the model on local data."""
        model = model_class()
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
        model = model_class()
        model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
        _, testset = load_data(context)
        metrics = MetricRecord({"eval_acc": test_fn(model, testset), "num-examples": len(testset[0])})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)

    return app


app = client_app()
