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
from .message_log import log_messages, note_problem
from .messages import read_query
from .node_settings import NodeSettings, is_simulated, read_node_settings

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
    note_problem(error)
    # A simulation is one person's, who needs the real cause.
    if isinstance(error, _PUBLIC_ERRORS) or (is_simulated() and isinstance(error, ColdFusionError)):
        return str(error)
    log(ERROR, "%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, ColdFusionError) else error)
    details = first_line(error) if is_simulated() else "the details are in the contributor's own log"
    return f"{type(error).__name__}: {details}"


def describe_node(message: Message, context: Context) -> Message:
    """Reply to a query: the contributor's name and task, and the problem that keeps it from taking part, if any."""
    config = ConfigRecord()
    try:
        contributor = read_node_settings(context)
        config["name"], config["task"], config["seen"] = contributor.name, contributor.task, contributor.seen
        config["versions"] = format_versions()
        if not is_simulated():  # there, all nodes are the server's own, and their state may be new in each run
            config["token"] = ClientState(context, contributor.state_folder).token(str(message.metadata.run_id))
            _check_frozen(message, contributor)
    except (ColdFusionError, OSError) as error:
        config["problem"] = _public_error_message(error)
    if is_simulated() and (nodes := context.node_config.get("num-partitions")):
        config["simulated-nodes"] = int(nodes)
    return Message(RecordDict({"config": config}), reply_to=message)


def _check_frozen(message: Message, contributor: NodeSettings) -> None:
    """Check that this node has the run's frozen arrays, where a query says that the run has some.

    Raises:
        MismatchError: the node's own arrays are others than those of the run.
        ModelError: the node's base cannot be loaded, or has nothing to freeze.
        SettingsError: the server's setting is not known here.
    """
    query = read_query(message)
    if query.frozen_sha256:
        from .own_base import add_frozen, open_base_once  # seconds to load, and most queries do not need them

        add_frozen({}, open_base_once(contributor.base), query.freeze, query.frozen_sha256)


def train(message: Message, context: Context) -> Message:
    """See `handlers.train`."""
    from .handlers import train  # PyTorch and transformers take seconds to load, and a query does not need them

    return train(message, context)


def evaluate(message: Message, context: Context) -> Message:
    """See `handlers.evaluate`."""
    from .handlers import evaluate

    return evaluate(message, context)


app = contributor_app()
