"""The contributor's ClientApp: finetunes the base on its own task and returns only the encoder."""

import functools
from collections.abc import Callable
from logging import ERROR

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.common import log

from coldfusion_fl.errors import ColdFusionError, MismatchError, SettingsError, first_line
from coldfusion_fl.extras import missing_extra
from coldfusion_fl.versions import format_versions

from .client_state import ClientState
from .message_log import log_messages
from .node_settings import is_simulated, read_node_settings

# Their messages are about what the server sent or about the training, and contain nothing of this machine.
_PUBLIC_ERRORS = (MismatchError, SettingsError)
# Flower's code of an app that raised an exception. Its names for these codes are in a private module.
APP_RAISED = 2
_Handler = Callable[[Message, Context], Message]


def contributor_app(mods: list[Mod] | None = None, train_mods: list[Mod] | None = None) -> ClientApp:
    """A ClientApp that describes its node, trains and evaluates.

    Args:
        mods: Flower mods for all messages.
        train_mods: mods for train messages only, such as Flower's for differential privacy, which accept no others.
    """
    app = ClientApp(mods=[log_messages, *(mods or ())])
    app.query()(describe_node)
    app.train(mods=train_mods)(hide_tracebacks(train))
    app.evaluate()(hide_tracebacks(evaluate))
    return app


def hide_tracebacks(handler: _Handler) -> _Handler:
    """Reply to an exception with a message that may leave this machine.

    Flower would send the traceback, which contains paths and can contain data.
    """

    @functools.wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as error:
            reason = _public_error_message(missing_extra(error, "the contributor's app") or error)
            return Message(Error(code=APP_RAISED, reason=reason), reply_to=message)

    return handle


def _public_error_message(error: Exception) -> str:
    """The message for the server. Messages about rows and files can contain data or paths, so they are only logged."""
    # A simulation is one person's, who needs the real cause.
    if isinstance(error, _PUBLIC_ERRORS) or (is_simulated() and isinstance(error, ColdFusionError)):
        return str(error)
    log(ERROR, "%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, ColdFusionError) else error)
    details = first_line(error) if is_simulated() else "the details are in the contributor's own log"
    return f"{type(error).__name__}: {details}"


def describe_node(message: Message, context: Context) -> Message:
    """Reply to a query: the contributor's name and task, or the problem that keeps it from taking part."""
    try:
        contributor = read_node_settings(context)
        config = ConfigRecord(
            {
                "name": contributor.name,
                "task": contributor.task,
                "seen": contributor.seen,
                "versions": format_versions(),
            }
        )
        if not is_simulated():  # there, all nodes are the server's own, and their state may be new in each run
            config["token"] = ClientState(context, contributor.state_folder).token(str(message.metadata.run_id))
    except (ColdFusionError, OSError) as error:
        config = ConfigRecord({"problem": _public_error_message(error)})
    if is_simulated() and (nodes := context.node_config.get("num-partitions")):
        config["simulated-nodes"] = int(nodes)
    return Message(RecordDict({"config": config}), reply_to=message)


def train(message: Message, context: Context) -> Message:
    """See `handlers.train`."""
    from .handlers import train  # PyTorch and transformers take seconds to load, and a query does not need them

    return train(message, context)


def evaluate(message: Message, context: Context) -> Message:
    """See `handlers.evaluate`."""
    from .handlers import evaluate

    return evaluate(message, context)


app = contributor_app()
