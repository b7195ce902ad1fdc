"""Checks a reply, and puts the contribution in it on disk."""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from coldfusion_fl.aggregation.compression import EncodedContribution, decode
from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.blocks import quick_update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import NormLimit, find_not_finite, find_other_layout
from coldfusion_fl.config.message_keys import COMPRESSION, ROUND
from coldfusion_fl.errors import ColdFusionError, CompressionError, count
from coldfusion_fl.fusion import Contribution, Operator
from coldfusion_fl.runs.records import RejectionRecord
from coldfusion_fl.sanitize import MAX_METRICS, MAX_NAME, bounded, sane_numbers

from ..nodes.array_records import UnreadableArrayError, to_numpy
from ..nodes.messaging import error_reason, records_of
from ..nodes.replies import is_unreadable

FISHER = "fisher"
SCALES = "scales"
# What a contributor counts; a negative number of them is none.
_COUNTS = frozenset({"num-examples", "steps", "seconds"})


class InvalidReplyError(Exception):
    """A reply holds nothing that can be fused; the message is a clause that says why."""


class ReplyValidator:
    """Makes candidates of the replies of one round.

    Args:
        base: the arrays that the contributors started from.
        constants: arrays that they got beside these, which must come back as they were.
        operator: the fusion, which may need something of its own of a contribution.
        server_round: the round.
        array_file: the file that takes the arrays of valid contributions.
        is_shared: whether an array that the base lacks should be shared; others are dropped. None: all should.
        arrayrecord_key: the key of the encoder in a reply.
        configrecord_key: the key of the record that says how the encoder is encoded.
        max_metrics: how many reported numbers are kept.

    Attributes:
        dropped: the number of dropped arrays, by contributor.
        cast: the first change of an array's precision, such as `float64 to float32`, by contributor.
    """

    def __init__(
        self,
        base: Encoder,
        constants: Encoder,
        operator: Operator,
        server_round: int,
        array_file: ArrayFile,
        is_shared: Callable[[str], bool] | None,
        arrayrecord_key: str,
        configrecord_key: str,
        max_metrics: int = MAX_METRICS,
    ) -> None:
        self._max_metrics = max_metrics
        self._base = base
        self._constants = constants
        self._operator = operator
        self._round = server_round
        self._array_file = array_file
        self._is_shared = is_shared
        self._arrayrecord_key = arrayrecord_key
        self._configrecord_key = configrecord_key
        self.dropped: dict[str, int] = {}
        self.cast: dict[str, str] = {}

    @functools.cached_property
    def _norm_limit(self) -> NormLimit:
        return NormLimit(self._base)

    def validate(self, name: str, reply: Message) -> Candidate | RejectionRecord:
        """The contribution in a reply, with its arrays on disk; or why there is none.

        Args:
            name: the contributor whose message the reply answers.
            reply: whatever arrived.
        """
        if is_unreadable(reply):
            return reject_unreadable(name, reply)
        if reply.has_error():
            return RejectionRecord(name=name, reason=f"its training failed: {error_reason(reply)}")
        try:
            return self._to_candidate(name, reply)
        except InvalidReplyError as wrong:
            reason = str(wrong)
        except UnreadableArrayError as wrong:
            reason = f"its arrays cannot be read: {wrong}"
        # The disk is full, for example: that is not the contributor's fault.
        except (OSError, ColdFusionError):
            raise
        # Bytes from outside may cause errors that nobody foresaw, and no contributor may end the run.
        except Exception as broken:
            reason = f"its arrays cannot be read: {type(broken).__name__}: {broken}"
        return RejectionRecord(name=name, reason=bounded(reason), counts_toward_exclusion=True)

    def _to_candidate(self, name: str, reply: Message) -> Candidate:
        """Read a reply, compare it with the base, and move its arrays to disk, so that memory holds one reply."""
        # The cheap checks come first. Finite weights can still differ from the base by more than float32 holds.
        needed = {ROUND, self._operator.reported_weight}
        metrics = reported_metrics(reply, self._max_metrics, needed)
        of_round = metrics.get(ROUND, self._round)
        if of_round != self._round:
            raise InvalidReplyError(f"it is for round {of_round:g}, but this is round {self._round}")
        contribution = self._read(name, reply, metrics)
        if reason := find_other_layout(self._base, contribution.encoder):
            raise InvalidReplyError(reason)
        norm = quick_update_norm(self._base, contribution.encoder)
        # A finite norm shows that all values are finite.
        reason = None if math.isfinite(norm) else find_not_finite(self._base, contribution.encoder)
        if reason := reason or self._operator.rejection_reason(contribution):
            raise InvalidReplyError(reason)
        if not math.isfinite(norm):
            raise InvalidReplyError("the norm of its update is not finite")
        if reason := self._norm_limit.find_excess(contribution.encoder, norm):
            raise InvalidReplyError(reason)
        on_disk = replace(
            contribution,
            encoder=self._array_file.put(contribution.encoder),
            fisher=None if contribution.fisher is None else self._array_file.put(contribution.fisher),
        )
        return Candidate(on_disk, norm, sha256=encoder_hash(contribution.encoder), bytes=_received_bytes(reply))

    def _read(self, name: str, reply: Message, metrics: dict[str, float]) -> Contribution:
        records = records_of(reply, ArrayRecord)
        record = self._arrays(records)
        wanted = [
            key
            for key in record
            if key not in self._constants and (key in self._base or self._is_shared is None or self._is_shared(key))
        ]
        self._check_constants(record)
        if dropped := len(record) - len(wanted) - len(self._constants):
            self.dropped[name] = dropped
        encoder = self._cast(name, self._decode(reply, to_numpy(record, wanted)))
        fisher = records.get(FISHER) if self._operator.needs_fisher else None
        diagonal = None if fisher is None else to_numpy(fisher, [key for key in fisher if key in self._base])
        return Contribution(name, encoder, self._round, metrics=metrics, fisher=diagonal)

    def _arrays(self, records: Mapping[str, ArrayRecord]) -> ArrayRecord:
        """The encoder's record. Under another key than the expected one, it must be the only record of arrays."""
        if self._arrayrecord_key in records:
            return records[self._arrayrecord_key]
        others = [record for key, record in records.items() if key not in (FISHER, SCALES)]
        if len(others) != 1:
            raise InvalidReplyError(f"its reply has no ArrayRecord with the key '{self._arrayrecord_key}'")
        return others[0]

    def _check_constants(self, record: ArrayRecord) -> None:
        missing = self._constants.keys() - record.keys()
        for name, array in to_numpy(record, self._constants.keys() - missing).items():
            if not np.array_equal(array, self._constants[name]):
                raise InvalidReplyError(
                    f"'{name}' holds infinite values and differs from the base's: such an array must stay as it is"
                )
        if missing:
            raise InvalidReplyError(f"it lacks {count(len(missing), 'weight')} of the base: {', '.join(missing)}")

    def _cast(self, name: str, encoder: EncoderDict) -> EncoderDict:
        """The arrays in the base's floating-point types; NumPy makes float64 of many results."""
        cast: EncoderDict = {}
        for key, array in encoder.items():
            wanted = self._base[key].dtype if key in self._base else array.dtype
            # One array may stand under many names: of another shape than the base's, each would become a copy.
            fits = key in self._base and array.shape == self._base[key].shape
            if fits and array.dtype != wanted and array.dtype.kind == wanted.kind == "f":
                self.cast.setdefault(name, f"{array.dtype} to {wanted}")
                with np.errstate(over="ignore"):  # an overflow is an infinite value, which is rejected
                    cast[key] = array.astype(wanted)
            else:
                cast[key] = array
        return cast

    def _decode(self, reply: Message, arrays: EncoderDict) -> EncoderDict:
        """The arrays as they were before compression; most replies are not compressed."""
        config = records_of(reply, ConfigRecord).get(self._configrecord_key) or ConfigRecord()
        compression = str(config.get(COMPRESSION, "float32"))
        scales = records_of(reply, ArrayRecord).get(SCALES, ArrayRecord())
        scale_arrays = to_numpy(scales) if compression == "int8" else {}
        try:
            return decode(EncodedContribution(compression, arrays, scale_arrays), self._base)
        except CompressionError as wrong:
            raise InvalidReplyError(str(wrong)) from None


def reject_unreadable(name: str, reply: Message) -> RejectionRecord:
    """The rejection of a reply that could not be read."""
    return RejectionRecord(name=name, reason=error_reason(reply), counts_toward_exclusion=True)


def _received_bytes(reply: Message) -> int:
    """The size of the arrays in a reply, as they were received."""
    return sum(len(array.data) for record in records_of(reply, ArrayRecord).values() for array in record.values())


def reported_metrics(reply: Message, most: int = MAX_METRICS, needed: Collection[str | None] = ()) -> dict[str, float]:
    """The first numbers that a reply reports and that can be what their names say; those that are needed come first."""
    items = (item for record in records_of(reply, MetricRecord).values() for item in record.items())
    numbers = sorted(
        ((key, value) for key, value in items if isinstance(value, int | float)), key=lambda item: item[0] not in needed
    )
    return sane_numbers(((key, value) for key, value in numbers if value >= 0 or key not in _COUNTS), most)


def reported_name(reply: Message) -> str:
    """The name that a reply gives its sender: the text `name` of a ConfigRecord, or the metric `partition-id`."""
    for record in records_of(reply, ConfigRecord).values():
        if isinstance(name := record.get("name"), str):
            return bounded(name, MAX_NAME)
    for metrics in records_of(reply, MetricRecord).values():
        if isinstance(partition := metrics.get("partition-id"), int):
            return f"partition-{partition}"
    return ""
