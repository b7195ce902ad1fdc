"""The contributor's ClientApp: finetunes the base on its own task and returns the encoder alone."""

import functools
from collections.abc import Callable
from logging import ERROR
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.common import log
from flwr.common.constant import ErrorCode

from coldfusion_fl.aggregation.compression import encode
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import COMPRESSIONS, EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import unflatten
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ColdFusionError, MismatchError, SettingsError
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import head_of, load_head, merge, new_model, split
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.fisher import fisher_diagonal
from coldfusion_fl.training.seeds import contributor_seed
from coldfusion_fl.versions import format_versions

from .client_state import ClientState, contributor_folder
from .contributor import Contributor, is_simulated, read_contributor

# Of what the server sent, or of the training: nothing of this machine is in their messages.
_FOR_ALL = (MismatchError, SettingsError)
_HEAD = "head"
_LOST = "lost"
_Handler = Callable[[Message, Context], Message]


def contributor_app(mods: list[Mod] | None = None, train_mods: list[Mod] | None = None) -> ClientApp:
    """A ClientApp that answers the roll call, trains and evaluates.

    Args:
        mods: Flower mods to wrap it in.
        train_mods: mods for the training alone, such as Flower's for differential privacy, which take no other message.
    """
    app = ClientApp(mods=mods)
    app.query()(describe_node)
    app.train(mods=train_mods)(hide_tracebacks(train))
    app.evaluate()(hide_tracebacks(evaluate))
    return app


def hide_tracebacks(handler: _Handler) -> _Handler:
    """Answer with what an error may tell the server, where Flower would send a traceback with this machine's paths."""

    @functools.wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as wrong:
            reason = _public_reason(wrong)
            return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)

    return answer


def _public_reason(wrong: Exception) -> str:
    """What the server may know of an error: messages about rows and files hold words and paths of this machine."""
    if isinstance(wrong, _FOR_ALL) or (is_simulated() and isinstance(wrong, ColdFusionError)):
        return str(wrong)
    log(ERROR, "%s: %s", type(wrong).__name__, wrong, exc_info=None if isinstance(wrong, ColdFusionError) else wrong)
    return f"{type(wrong).__name__}: the contributor's own log says more"


def describe_node(message: Message, context: Context) -> Message:
    """Answer the roll call: who this is, or why it cannot take part."""
    try:
        who = read_contributor(context)
        about = ConfigRecord(
            {"name": who.name, "task": who.task, "seen": who.seen, "versions": format_versions()},
        )
    except ColdFusionError as wrong:
        about = ConfigRecord({"problem": _public_reason(wrong)})
    if is_simulated() and (nodes := context.node_config.get("num-partitions")):
        about["simulated-nodes"] = int(nodes)
    return Message(RecordDict({"config": about}), reply_to=message)


def train(message: Message, context: Context) -> Message:
    """Finetune the base on this contributor's task and return the encoder.

    The head is fresh each time, as in the paper, or with `keep-head` the one of the last round; either way it stays
    here, in the node's own context.

    Raises:
        SettingsError: this node only judges, or the server's settings are not known here.
        MismatchError: the base is not of this contributor's architecture, or the training diverged.
    """
    who = read_contributor(context)
    if not who.seen:
        raise SettingsError(f"'{who.name}' does not contribute: its node says seen=false.")
    config = unflatten(dict(_part(message, "config")))
    settings = parse_table(FinetuneSettings, config.get("finetune", {}), "the server's settings", "finetune.")
    server_round = int(config.get("server-round", 0))
    seed = contributor_seed(int(config.get("seed", 0)), server_round, who.name)
    arrays = _arrays(message)
    task = load_task(who.task, who.catalogues, who.data_root)
    base = _base(who.base)
    model = new_model(base, task.num_labels, base.head(settings.head), seed)
    merge(model, arrays)
    kept = ClientState(context, _state_folder(who, str(config.get("run", ""))))
    if settings.keep_head:
        load_head(model, kept.get(_HEAD, server_round))
    done = finetune(
        model,
        base.tokenizer,
        task,
        task.train.draw(settings.examples, [seed]),
        settings,
        seed,
        progress=_progress_reporter(who, server_round),
    )
    contribution = split(model, arrays.keys())
    if reason := find_mismatch(arrays, contribution):
        raise MismatchError(f"the training on '{task.name}' went wrong: {reason}. Lower the learning rate.")
    if settings.keep_head:  # only of a training that went well
        kept.put(_HEAD, server_round, head_of(model, arrays))
    metrics: dict[str, Any] = {
        "server-round": server_round,
        "loss": done.loss,
        "dev-score": done.dev_score,
        "num-examples": done.examples,
        "steps": done.steps,
        "seconds": done.seconds,
    }
    content = RecordDict({"metrics": MetricRecord(metrics)})
    compression = str(config.get("compression", "float32"))
    if compression in COMPRESSIONS[1:]:
        encoded, lost = encode(contribution, arrays, compression, kept.get(_LOST, server_round))
        kept.put(_LOST, server_round, lost)
        content["arrays"], content["scales"] = _record(encoded.arrays), _record(encoded.scales)
        content["config"] = ConfigRecord({"compression": compression})
    else:  # also for a server that knows more ways than we do
        content["arrays"] = _record(contribution)
    if rows := int(config.get("fisher-examples", 0)):
        examples = task.train.draw(rows, [seed])
        content["fisher"] = _record(
            fisher_diagonal(model, base.tokenizer, examples, settings.max_length, contribution, seed)
        )
    return Message(content, reply_to=message)


def evaluate(message: Message, context: Context) -> Message:
    """Score the base on this contributor's own test split."""
    who = read_contributor(context)
    config = unflatten(dict(_part(message, "config")))
    source = "the server's settings"
    finetuning = parse_table(FinetuneSettings, config.get("finetune", {}), source, "finetune.")
    settings = parse_table(EvaluateSettings, config.get("evaluate", {}), source, "evaluate.")
    task = load_task(who.task, who.catalogues, who.data_root)
    base, arrays = _base(who.base), _arrays(message)
    modes = [mode for mode in str(config.get("modes", "frozen")).split(",") if mode != "few-shot" or settings.shots]
    # The same rows, shots and heads in every round: a difference between two bases is the bases'.
    seed = int(config.get("seed", 0))
    scores = [score_task(base, arrays, task, mode, finetuning, settings, seed) for mode in modes]
    about: dict[str, Any] = {"metric": task.metric, "head": scores[0].head, "seen": who.seen}
    metrics: dict[str, Any] = {**{score.mode: score.value for score in scores}, "num-examples": scores[0].test_examples}
    content = RecordDict({"metrics": MetricRecord(metrics), "config": ConfigRecord(about)})
    return Message(content, reply_to=message)


def _state_folder(who: Contributor, run: str) -> Path | None:
    """Where a contributor keeps what it keeps in a run; None: in its context."""
    if who.run_folder:
        return contributor_folder(who.run_folder / "nodes", who.name)
    return contributor_folder(who.kept, run) if who.kept and run else None


@functools.lru_cache(maxsize=1)
def _base(reference: str) -> Base:
    return open_base(reference)


def _record(encoder: Encoder) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in encoder.items()})


def _arrays(message: Message) -> Encoder:
    return {name: array.numpy() for name, array in _part(message, "arrays").items()}


def _part(message: Message, key: str) -> Any:
    # Its typed views (content.array_records) tie the message into a circle, so that it stays in memory for long.
    return message.content[key]


def _progress_reporter(who: Contributor, server_round: int) -> Callable[[int, int, float], None] | None:
    """Tells a simulation's run folder how far the training is; a node elsewhere has no such folder."""
    if who.run_folder is None or not who.run_folder.is_dir():
        return None
    ledger = Ledger(who.run_folder)

    def tell(step: int, steps: int, loss: float) -> None:
        ledger.event("training", round=server_round, name=who.name, step=step, steps=steps, loss=loss)

    return tell


app = contributor_app()
