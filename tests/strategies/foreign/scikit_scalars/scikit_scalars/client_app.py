"""scikit-scalars: the client."""

from common.data import load_data
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from scikit_scalars.task import create_model, get_model_params, set_model_params

# Flower ClientApp
app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = set_model_params(create_model(), msg.content["arrays"].to_numpy_ndarrays())
    trainset, _ = load_data(context)
    model.partial_fit(trainset[0].astype("float64"), trainset[1])
    metrics = MetricRecord({"train_acc": model.score(*trainset), "num-examples": len(trainset[0])})
    content = RecordDict({"arrays": ArrayRecord(get_model_params(model)), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = set_model_params(create_model(), msg.content["arrays"].to_numpy_ndarrays())
    _, testset = load_data(context)
    metrics = MetricRecord({"eval_acc": model.score(*testset), "num-examples": len(testset[0])})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
