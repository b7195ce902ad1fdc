"""What a contributor does with a base: it finetunes the base, or scores it, on its own task."""

import hashlib
import json
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import log
from safetensors import SafetensorError

from coldfusion_fl.aggregation.compression import encode
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.atomic_files import write_json
from coldfusion_fl.config.message_keys import COMPRESSION, ROUND
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ErrorCode, MismatchError, SettingsError
from coldfusion_fl.evaluation.bootstrap import difference_error
from coldfusion_fl.evaluation.reported_scores import DIFFERENCE_ERROR
from coldfusion_fl.evaluation.scores import Predictions, Score
from coldfusion_fl.model.encoder import build_model, load_head, merge, split, split_head
from coldfusion_fl.runs.events import TrainingStep
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.training.finetune import FinetuneResult, Progress, finetune
from coldfusion_fl.training.fisher import fisher_diagonal
from coldfusion_fl.training.node_state import BASE, FINETUNING, HEAD, NodeFiles, contributor_folder, simulated_folder
from coldfusion_fl.training.seeds import contributor_seed

from .client_state import ClientState
from .messages import EvaluateRequest, TrainRequest, read_evaluate_request, read_train_request, to_record
from .node_settings import NodeSettings, read_node_settings
from .own_base import add_frozen, open_base_once
from .scoring import score_base

# Other kinds of `ClientState`.
_COMPRESSION_ERROR = "compression-error"
# The predictions of the first base, one kind for each mode: they are saved in round 0 alone, so they stay. Beside them
# is a hash of what two scores must have in common to be compared.
_FIRST_BASE = "first-base"
_PREDICTED, _COMPARED = "predicted", "compared"


def train(message: Message, context: Context) -> Message:
    """Finetune the base on this contributor's task and return the encoder.

    The head is new in each round, as in the paper. With `keep-head` it is the head of the previous round. It never
    leaves the node.

    Raises:
        SettingsError: this node only evaluates, or the server sent a setting that is not known here.
        MismatchError: the base has another architecture than this contributor's, or the training diverged.
    """
    contributor = read_node_settings(context)
    if not contributor.seen:
        raise SettingsError(f"'{contributor.name}' does not contribute: its node config has seen=false.")
    request = read_train_request(message)
    settings, server_round = request.finetuning, request.server_round
    seed = contributor_seed(request.seed, server_round, contributor.name)
    task = load_task(contributor.task, contributor.catalogues, contributor.data_root)
    base = open_base_once(contributor.base)
    encoder = add_frozen(request.encoder, base, settings.freeze, request.frozen_sha256)
    state = ClientState(context, _state_folder(contributor, request.run))

    # Merge: the base's encoder with a new head or the previous one.
    model = build_model(base, task.num_labels, base.choose_head(settings.head), seed)
    merge(model, encoder)
    if settings.keep_head:
        load_head(model, state.load(HEAD, server_round))

    rows = task.train.draw(settings.examples, [seed])
    progress = _progress_callback(contributor, server_round)
    result = finetune(model, base.tokenizer, task, rows, settings, seed, progress=progress)

    # Split: only the encoder is sent, without what is frozen. The head is stored only if the training did not diverge.
    contribution = split(model, request.encoder.keys())
    if reason := find_mismatch(request.encoder, contribution):
        raise MismatchError(
            f"the training on '{task.name}' diverged: {reason}. Lower the learning rate.",
            code=ErrorCode.TRAINING_DIVERGED,
        )
    if settings.keep_head:
        state.save(HEAD, server_round, split_head(model, encoder))

    content = RecordDict({"metrics": _training_metrics(server_round, result)})
    _add_contribution(content, contribution, request, state)
    if request.fisher_examples:
        fisher_rows = task.train.draw(request.fisher_examples, [seed])
        content["fisher"] = to_record(
            fisher_diagonal(model, base.tokenizer, fisher_rows, settings.max_length, contribution, seed)
        )
    return Message(content, reply_to=message)


def _training_metrics(server_round: int, result: FinetuneResult) -> MetricRecord:
    metrics: dict[str, Any] = {
        ROUND: server_round,
        "loss": result.loss,
        "dev-score": result.dev_score,
        "num-examples": result.examples,
        "steps": result.steps,
        "seconds": result.seconds,
    }
    return MetricRecord(metrics)


def _add_contribution(content: RecordDict, contribution: Encoder, request: TrainRequest, state: ClientState) -> None:
    """Add the contribution to a reply, encoded as the server asks for it.

    The compression error is stored, and added to the next contribution (error feedback). A newer server may ask for a
    compression that is not known here: the contribution is then sent as float32, which every server can read.
    """
    if request.compression == "float32" or request.compression not in COMPRESSIONS:
        content["arrays"] = to_record(contribution)
        return
    previous_error = state.load(_COMPRESSION_ERROR, request.server_round)
    encoded, error = encode(contribution, request.encoder, request.compression, previous_error)
    state.save(_COMPRESSION_ERROR, request.server_round, error)
    content["arrays"], content["scales"] = to_record(encoded.arrays), to_record(encoded.scales)
    content["config"] = ConfigRecord({COMPRESSION: request.compression})


def evaluate(message: Message, context: Context) -> Message:
    """Score the base on this contributor's own test split.

    In a simulation, scores of the first base may be from an earlier run: see `scoring`.

    Raises:
        SettingsError: the server sent a setting that is not known here.
        MismatchError: the base has another architecture than this contributor's, or the outputs are not numbers.
    """
    contributor = read_node_settings(context)
    request = read_evaluate_request(message)
    task = load_task(contributor.task, contributor.catalogues, contributor.data_root)
    base = open_base_once(contributor.base)
    encoder = add_frozen(request.encoder, base, request.finetuning.freeze, request.frozen_sha256)
    found = score_base(contributor, request, base, encoder, task)
    scores = [score for score, _ in found]
    values: dict[str, Any] = {score.mode: score.value for score in scores}
    folder = _state_folder(contributor, request.run)
    state = ClientState(context, folder)
    if folder and not contributor.run_folder and request.server_round:
        _keep_base(folder, encoder, request)
    for score, predictions in found:
        error = _compare_with_first_base(score, predictions, request.server_round, state)
        if error is not None:
            values[score.mode + DIFFERENCE_ERROR] = error
    metrics = MetricRecord({**values, "num-examples": scores[0].test_examples})
    config = ConfigRecord(
        {
            "metric": task.metric,
            "head": scores[0].head,
            "seen": contributor.seen,
            "test-rows-hash": _keyed_hash(scores[0].test_rows_hash, contributor, state),
        }
    )
    return Message(RecordDict({"metrics": metrics, "config": config}), reply_to=message)


def _keep_base(folder: Path, encoder: Encoder, request: EvaluateRequest) -> None:
    """Keep the newest base on a member's disk, where the member makes its own classifier of it after the run."""
    files = NodeFiles(folder)
    try:
        files.save(BASE, request.server_round or 0, encoder, kept=1)
        write_json(folder / FINETUNING, to_table(request.finetuning))
    except OSError as error:  # a full disk is no failed evaluation
        log(WARNING, "The base of round %d cannot be kept: %s", request.server_round, error)


def _compare_with_first_base(
    score: Score, predictions: Predictions, server_round: int | None, state: ClientState
) -> float | None:
    """The standard error of a score's difference to that of the first base, in points.

    The predictions of the first base are kept on this node. Only the error leaves it, and nothing about single rows.

    Returns:
        The error; None for the first base, or if this node has no predictions of the first base for the same test
        rows, metric and head.
    """
    if server_round is None:
        return None
    facts = json.dumps([score.metric, score.head, score.test_rows_hash]).encode()
    compared = np.frombuffer(hashlib.sha256(facts).digest(), np.uint8)
    kind = f"{_FIRST_BASE}-{score.mode}"
    # Without the predictions there is only no interval, so an unreadable file or a full disk is no failed evaluation.
    kept: EncoderDict = {}
    try:
        if server_round == 0:
            state.save(kind, 0, {_PREDICTED: predictions.predicted, _COMPARED: compared})
        else:
            kept = state.load(kind, 1)
    except (OSError, SafetensorError) as error:
        done = "saved" if server_round == 0 else "read"
        log(WARNING, "No interval of '%s': the first base's predictions cannot be %s: %s", score.mode, done, error)
    if _PREDICTED not in kept or not np.array_equal(kept.get(_COMPARED, ()), compared):
        return None
    return difference_error(score.metric, predictions.labels, kept[_PREDICTED], predictions.predicted)


def _keyed_hash(rows_hash: str, contributor: NodeSettings, state: ClientState) -> str:
    """A hash of private rows for the server, which can compare it with the node's other ones alone.

    With a plain hash, the server could confirm a guess of the rows, and see which members have the same ones.
    """
    if contributor.run_folder:  # a simulation, where `coldfusion evaluate` gives the same hash
        return rows_hash
    return hashlib.blake2b(rows_hash.encode(), key=state.secret(), digest_size=len(rows_hash) // 2).hexdigest()


def _state_folder(contributor: NodeSettings, run: str) -> Path | None:
    """The folder of a contributor's state in a run; None if the state is in its context."""
    if contributor.run_folder:
        return simulated_folder(contributor.run_folder, contributor.name)
    return contributor_folder(contributor.state_folder, run) if contributor.state_folder and run else None


def _progress_callback(contributor: NodeSettings, server_round: int) -> Progress | None:
    """In a simulation, a callback that writes the training progress to the run folder; None on other nodes."""
    if contributor.run_folder is None or not contributor.run_folder.is_dir():
        return None
    ledger = Ledger(contributor.run_folder)

    def report(step: int, steps: int, loss: float) -> None:
        ledger.emit(TrainingStep(round=server_round, name=contributor.name, step=step, steps=steps, loss=loss))

    return report
