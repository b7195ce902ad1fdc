"""The server's messages to a contributor, as types, and the arrays of the replies."""

from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, Message

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.message_keys import COMPRESSION, FROZEN_SHA256, MODES, ROUND, SEED
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings, Freeze
from coldfusion_fl.config.tables import unflatten

_SOURCE = "the server's settings"


@dataclass(frozen=True)
class TrainRequest:
    """A train message.

    Attributes:
        encoder: the round's base: arrays by name, without those that the node has itself.
        finetuning: the schedule of the finetuning.
        seed: the run's seed.
        server_round: the round.
        run: the id of the run; empty if the server does not send it.
        frozen_sha256: the hash of the frozen arrays; empty: the server sends all arrays.
        compression: how the contribution is to be encoded; a server may ask for a way that this client does not know.
        fisher_examples: the number of rows for the Fisher diagonal; 0: no diagonal is needed.
    """

    encoder: Encoder
    finetuning: FinetuneSettings
    seed: int
    server_round: int
    run: str
    frozen_sha256: str
    compression: str
    fisher_examples: int


@dataclass(frozen=True)
class EvaluateRequest:
    """An evaluate message.

    Attributes:
        encoder: the base to score: arrays by name, without those that the node has itself.
        finetuning: the schedule of the few-shot and finetuned scores, and the head.
        settings: the numbers of rows, shots and seeds.
        modes: the scores to compute.
        seed: the run's seed.
        server_round: the round that made the base; 0: it is the first base; None: the server does not say.
        run: the id of the run; empty if the server does not send it.
        frozen_sha256: as in `TrainRequest`.
    """

    encoder: Encoder
    finetuning: FinetuneSettings
    settings: EvaluateSettings
    modes: tuple[str, ...]
    seed: int
    server_round: int | None
    run: str
    frozen_sha256: str


@dataclass(frozen=True)
class Query:
    """A query.

    Attributes:
        freeze: what the run freezes.
        frozen_sha256: as in `TrainRequest`.
    """

    freeze: Freeze
    frozen_sha256: str


def read_query(message: Message) -> Query:
    """Read a query, which may be empty.

    Raises:
        SettingsError: a setting is not known here, or is not valid.
    """
    sent = dict(message.content.get("config") or {})
    settings = parse_table(FinetuneSettings, unflatten(sent).get("finetune", {}), _SOURCE, "finetune.")
    return Query(settings.freeze, str(sent.get(FROZEN_SHA256, "")))


def read_train_request(message: Message) -> TrainRequest:
    """Read a train message.

    Raises:
        SettingsError: a setting is not known here, or is not valid.
    """
    sent = dict(_content(message, "config"))
    config = unflatten(sent)
    return TrainRequest(
        encoder=_encoder(message),
        finetuning=parse_table(FinetuneSettings, config.get("finetune", {}), _SOURCE, "finetune."),
        seed=int(sent.get(SEED, 0)),
        server_round=int(sent.get(ROUND, 0)),
        run=str(config.get("run", "")),
        frozen_sha256=str(config.get(FROZEN_SHA256, "")),
        compression=str(sent.get(COMPRESSION, "float32")),
        fisher_examples=int(config.get("fisher-examples", 0)),
    )


def read_evaluate_request(message: Message) -> EvaluateRequest:
    """Read an evaluate message. A few-shot score is left out if the settings have 0 shots.

    Raises:
        SettingsError: a setting is not known here, or is not valid.
    """
    sent = dict(_content(message, "config"))
    config = unflatten(sent)
    settings = parse_table(EvaluateSettings, config.get("evaluate", {}), _SOURCE, "evaluate.")
    modes = str(sent.get(MODES, "frozen")).split(",")
    return EvaluateRequest(
        encoder=_encoder(message),
        finetuning=parse_table(FinetuneSettings, config.get("finetune", {}), _SOURCE, "finetune."),
        settings=settings,
        modes=tuple(mode for mode in modes if mode != "few-shot" or settings.shots),
        seed=int(sent.get(SEED, 0)),
        server_round=int(sent[ROUND]) if ROUND in sent else None,
        run=str(config.get("run", "")),
        frozen_sha256=str(config.get(FROZEN_SHA256, "")),
    )


def to_record(encoder: Encoder) -> ArrayRecord:
    """Arrays by name as Flower sends them."""
    return ArrayRecord({name: Array(array) for name, array in encoder.items()})


def _encoder(message: Message) -> Encoder:
    return {name: array.numpy() for name, array in _content(message, "arrays").items()}


def _content(message: Message, key: str) -> Any:
    # The typed views, such as `content.array_records`, create a reference cycle with the message. Its arrays would then
    # stay in memory until the garbage collector runs.
    return message.content[key]
