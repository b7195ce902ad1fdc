"""The door: what comes back from contributors, checked and put aside one reply at a time."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from coldfusion_fl.aggregation.compression import EncodedContribution, decode
from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.errors import CompressionError
from coldfusion_fl.fusion import Contribution, Fisher, Operator
from coldfusion_fl.sanitize import sanitize

from .array_records import UnreadableArrayError, to_numpy

FISHER = "fisher"
SCALES = "scales"
_REASON = 300
_MOST_NUMBERS = 100

_Record = TypeVar("_Record", ArrayRecord, MetricRecord, ConfigRecord)


class InvalidReplyError(Exception):
    """A contribution cannot be fused; the message is a clause that says why."""


@dataclass
class Rejection:
    """Why a reply was not fused.

    Attributes:
        name: its sender's.
        reason: a clause that a person understands.
        counts: whether it counts against its sender: something came, and it was not fit to be fused.
        came: whether something came at all.
        facts: what is known of the contribution.
    """

    name: str
    reason: str
    counts: bool = False
    came: bool = True
    facts: dict[str, Any] = field(default_factory=dict)


class ReplyValidator:
    """Takes the replies of one round.

    Args:
        base: the arrays that the contributors began with.
        operator: what will fuse them: it may need something of its own of a contribution.
        server_round: the round.
        array_file: where fit contributions are put aside.
        is_shared: says of a name that the base lacks whether it ought to be shared; those that ought not are dropped.
        arrayrecord_key: of the encoder in a reply.
        configrecord_key: of what a reply says of itself: how it is packed.

    Attributes:
        dropped: how many arrays were dropped of whom.
    """

    def __init__(
        self,
        base: Encoder,
        operator: Operator,
        server_round: int,
        array_file: ArrayFile,
        is_shared: Callable[[str], bool] | None,
        arrayrecord_key: str,
        configrecord_key: str,
    ) -> None:
        self._base = base
        self._operator = operator
        self._round = server_round
        self._array_file = array_file
        self._is_shared = is_shared
        self._key = arrayrecord_key
        self._config_key = configrecord_key
        self.dropped: dict[str, int] = {}

    def take(self, name: str, reply: Message) -> Candidate | Rejection:
        """A reply as a candidate on disk, or why it cannot be one."""
        if reply.has_error():
            return Rejection(name, f"its training failed: {error_of(reply)}")
        try:
            return self._candidate(name, reply)
        except InvalidReplyError as wrong:
            reason = str(wrong)
        except UnreadableArrayError as wrong:
            reason = f"its arrays cannot be read: {wrong}"
        # Bytes from outside may find what nobody thought of, and nothing that a contributor sends may end the run.
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as broken:
            reason = f"its arrays cannot be read: {type(broken).__name__}: {broken}"
        return Rejection(name, sanitize(reason)[:_REASON], counts=True)

    def _candidate(self, name: str, reply: Message) -> Candidate:
        metrics = reported(reply)
        of_round = metrics.get("server-round", self._round)
        if of_round != self._round:
            raise InvalidReplyError(f"it is of round {of_round:g}, not of round {self._round}")
        contribution = self._read(name, reply, metrics)
        if reason := find_mismatch(self._base, contribution.encoder) or self._operator.rejection_reason(contribution):
            raise InvalidReplyError(reason)
        norm = update_norm(self._base, contribution.encoder)
        if not math.isfinite(norm):
            raise InvalidReplyError("its update is too large for any number")
        on_disk = replace(
            contribution,
            encoder=self._array_file.put(contribution.encoder),
            fisher=None if contribution.fisher is None else self._array_file.put(contribution.fisher),
        )
        return Candidate(on_disk, norm, sha256=encoder_hash(contribution.encoder))

    def _read(self, name: str, reply: Message, metrics: Mapping[str, float]) -> Contribution:
        record = records(reply, ArrayRecord).get(self._key)
        if record is None:
            raise InvalidReplyError(f"its reply holds no arrays ('{self._key}')")
        wanted = [key for key in record if key in self._base or self._is_shared is None or self._is_shared(key)]
        if dropped := len(record) - len(wanted):
            self.dropped[name] = dropped
        encoder = self._unpack(reply, to_numpy(record, wanted))
        fisher = records(reply, ArrayRecord).get(FISHER) if isinstance(self._operator, Fisher) else None
        diagonal = None if fisher is None else to_numpy(fisher, [key for key in fisher if key in self._base])
        return Contribution(name, encoder, self._round, metrics=metrics, fisher=diagonal)

    def _unpack(self, reply: Message, arrays: EncoderDict) -> EncoderDict:
        """The arrays as they were before they were packed; most are not."""
        about = records(reply, ConfigRecord).get(self._config_key) or ConfigRecord()
        compression = str(about.get("compression", "float32"))
        scales = records(reply, ArrayRecord).get(SCALES, ArrayRecord())
        try:
            return decode(
                EncodedContribution(compression, arrays, to_numpy(scales) if compression == "int8" else {}), self._base
            )
        except CompressionError as wrong:
            raise InvalidReplyError(str(wrong)) from None


def records(reply: Message, kind: type[_Record]) -> dict[str, _Record]:
    """A reply's records of one kind by key.

    Flower's own views, such as `content.array_records`, tie a message into a reference cycle: its bytes would stay in
    memory until Python happens to look for cycles.
    """
    return {key: record for key, record in reply.content.items() if isinstance(record, kind)}


def reported(reply: Message) -> dict[str, float]:
    """The finite numbers that a reply reports, the first hundred of them."""
    items = (item for record in records(reply, MetricRecord).values() for item in record.items())
    numbers = ((key, value) for key, value in items if isinstance(value, int | float) and math.isfinite(value))
    return {sanitize(key)[:_REASON]: value for key, value in itertools.islice(numbers, _MOST_NUMBERS)}


def error_of(reply: Message) -> str:
    """What a person needs of an error reply: Flower puts a whole traceback in front of it, and brackets around."""
    lines = [line.strip() for line in (reply.error.reason or "").removesuffix("'>").splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given"
    return sanitize(last.removeprefix("Exception ClientAppException occurred. Message: "))[:_REASON]
