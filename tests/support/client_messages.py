"""Messages to the contributor's ClientApp, sent as Flower sends them."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from coldfusion_fl.clients.client_app import contributor_app

FINETUNE = {
    "finetune.learning-rate": 1e-3,
    "finetune.epochs": 1,
    "finetune.max-length": 16,
    "finetune.examples": 32,
}


def context(node_config, run_config=None):
    return Context(1, 2, node_config, RecordDict(), run_config or {})


def ask(kind, node, encoder=None, **config):
    content = RecordDict()
    if encoder is not None:
        arrays = ArrayRecord({name: Array(array) for name, array in encoder.items()})
        content = RecordDict(
            {
                "arrays": arrays,
                "config": ConfigRecord({**FINETUNE, "coldfusion.seed": 1, "coldfusion.round": 1, **config}),
            }
        )
    return contributor_app()(Message(content, dst_node_id=2, message_type=kind), node)
