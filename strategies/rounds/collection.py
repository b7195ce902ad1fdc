"""Collects the contributions of a round: those that arrive in time, and those of earlier rounds that are late."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from logging import INFO, WARNING

from flwr.app import Message
from flwr.common import log
from flwr.serverapp import Grid

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.errors import count
from coldfusion_fl.fusion import Operator
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.runs.events import ContributionReceived
from coldfusion_fl.runs.records import RejectionRecord
from coldfusion_fl.sanitize import metrics_limit

from ..nodes.membership import NodeRegistry
from ..nodes.messaging import RECEIVED, UNREACHABLE, FlowerErrorCode, error_reason, is_worker_loss, silence
from ..nodes.replies import is_unreadable
from .round_state import RoundState, without_arrays
from .stragglers import LateReply, Stragglers, rebase_update
from .validation import ReplyValidator, reject_unreadable, reported_name

Candidates = dict[str, Candidate]


class ContributionCollector:
    """Validates replies one at a time, so that memory does not grow with them.

    Args:
        state: has the bases that contributions are compared with.
        operator: the fusion, which may need something of its own of a contribution.
        is_shared: whether an array that the base lacks should be shared; others are dropped. None: all should.
        keys: the keys of the encoder in a reply, and of the record that says how it is encoded.
        staleness_discount: the scale of a late update for each round that it is late; 0: late ones are rejected.
        registry: the names of the nodes.
        learns_names: whether a contributor's name is the one in its reply.
    """

    def __init__(
        self,
        state: ServerState,
        operator: Operator,
        is_shared: Callable[[str], bool] | None,
        keys: tuple[str, str],
        staleness_discount: float,
        registry: NodeRegistry,
        *,
        learns_names: bool,
    ) -> None:
        self._state = state
        self._operator = operator
        self._is_shared = is_shared
        self._keys = keys
        self._staleness_discount = staleness_discount
        self._registry = registry
        self._learns_names = learns_names
        self._stragglers = Stragglers()
        self._has_warned = self._has_warned_of_casts = False

    def collect(
        self, round_: RoundState, replies: Iterable[Message], array_file: ArrayFile, timeout: float | None
    ) -> Candidates:
        """Validate the replies as they arrive.

        A reply that answers no message of the round, a second one of a contributor, one that cannot be fused, an error
        and a missing answer are rejected. The reply that the SuperLink gives for a node that it cannot reach is not the
        contributor's: the contributor may still answer. Nor is the end of its worker in a simulation its fault.

        Args:
            round_: the round; rejections are added to it.
            replies: as they arrive.
            array_file: the file that takes the arrays.
            timeout: the seconds that contributors had, for messages.

        Returns:
            The contributions that can be fused, by contributor, with their arrays on disk.
        """
        nodes = len(round_.sent.by_name)
        validator = self._validator(self._state.base, round_.number, array_file, nodes)
        candidates: Candidates = {}
        answered: set[str] = set()
        unreachable: dict[str, str] = {}
        incomplete: set[str] = set()
        for reply in replies:
            name = self._sender(round_, reply)
            if name is None:
                stranger = self._registry.name_of(reply.metadata.src_node_id)
                round_.reject(
                    RejectionRecord(name=stranger, reason="its reply does not belong to a message of this round")
                )
            elif name in answered:
                round_.reject(
                    RejectionRecord(
                        name=name, reason="it replied twice; only the first reply is used", counts_toward_exclusion=True
                    )
                )
            elif round_.is_simulated and reply.has_error() and is_worker_loss(reply):
                round_.lost_workers.append(name)
                unreachable[name] = error_reason(reply)
            elif reply.has_error() and reply.error.code in UNREACHABLE:
                unreachable[name] = f"it cannot be reached: {error_reason(reply)}"
                # Also what Flower answers for a reply that was announced and not sent.
                if reply.error.code == FlowerErrorCode.MESSAGE_UNAVAILABLE:
                    incomplete.add(name)
            else:
                answered.add(name)
                self._add(round_, name, validator.validate(name, reply), candidates, reply)
            del reply  # so that memory does not hold it while the next one arrives
        left_out = round_.sent.by_name.keys() & round_.arrived - answered - unreachable.keys()
        for name in sorted(left_out):
            reason = "the strategy left its reply out of the aggregation"
            round_.reject(RejectionRecord(name=name, reason=reason), INFO)
        silent = sorted(round_.sent.by_name.keys() - answered - left_out)
        for name in silent:
            reason = unreachable.get(name) or _silence(round_, timeout)
            timed_out = name in incomplete or (name not in unreachable and not _is_early(round_, timeout))
            round_.reject(RejectionRecord(name=name, reason=reason, received=False, timed_out=timed_out))
        self._stragglers.expect(round_.number, {name: round_.sent.by_name[name] for name in silent})
        log(INFO, RECEIVED, "aggregate_train", len(candidates), len(round_.record.rejected))
        self._warn_of_dropped_arrays(validator.dropped)
        self._warn_of_cast_arrays(validator.cast)
        return candidates

    def _sender(self, round_: RoundState, reply: Message) -> str | None:
        """The contributor that a reply is from, under the name that the reply gives, where names come from replies."""
        name = round_.sent.sender(reply, self._registry.name_of)
        if name is None or not self._learns_names or reply.has_error():
            return name
        node = round_.sent.by_name[name].metadata.dst_node_id
        reported = reported_name(reply)
        if not reported or reported == name or not self._registry.learn_name(node, reported):
            return name
        round_.rename(name, reported)
        return reported

    def collect_late(
        self, round_: RoundState, grid: Grid, array_file: ArrayFile, candidates: Candidates, timeout: float | None
    ) -> None:
        """Add the contributions of earlier rounds that have arrived, rebased to this round's base; or reject them.

        Args:
            round_: the round; rejections are added to it.
            grid: Flower's grid.
            array_file: the file that takes the arrays.
            candidates: the contributions of the round; late ones are added to them.
            timeout: the seconds that the round may take; late replies must be complete by then too.
        """
        spent = time.time() - (round_.record.began or 0.0)
        # Late ones are not worth another wait: what is left of the round's time is theirs.
        deadline = time.monotonic() + (math.inf if timeout is None else timeout - spent)
        for late in self._stragglers.arrived(grid, deadline):
            rebased = self._rebase(round_, late, array_file, candidates)
            if not isinstance(rebased, RejectionRecord):
                round_.staleness[late.name] = round_.number - late.round
            self._add(round_, late.name, rebased, candidates, late.reply)

    def _rebase(
        self, round_: RoundState, late: LateReply, array_file: ArrayFile, candidates: Mapping[str, Candidate]
    ) -> Candidate | RejectionRecord:
        if is_unreadable(late.reply):
            return reject_unreadable(late.name, late.reply)
        reason = f"it arrived too late: it belongs to round {late.round}"
        if not self._staleness_discount:
            return RejectionRecord(name=late.name, reason=reason)
        if late.name in candidates:
            return RejectionRecord(name=late.name, reason=f"{reason}, and a newer one has arrived")
        start = self._state.base_after(late.round - 1)
        if start is None:
            return RejectionRecord(name=late.name, reason=f"{reason}, and the base of that round is no longer stored")
        candidate = self._validator(start, late.round, array_file, len(round_.sent.by_name)).validate(
            late.name, late.reply
        )
        if isinstance(candidate, RejectionRecord):
            return candidate
        factor = self._staleness_discount ** (round_.number - late.round)
        return rebase_update(candidate, start, self._state.base, factor, array_file)

    def _validator(self, base: Encoder, number: int, array_file: ArrayFile, nodes: int) -> ReplyValidator:
        given = (base, self._state.shared_constants, self._operator, number, array_file, self._is_shared)
        return ReplyValidator(*given, *self._keys, metrics_limit(nodes))

    def _add(
        self,
        round_: RoundState,
        name: str,
        validated: Candidate | RejectionRecord,
        candidates: Candidates,
        reply: Message,
    ) -> None:
        if isinstance(validated, RejectionRecord):
            round_.reject(validated)
            return
        candidates[name] = validated
        round_.contents[name] = without_arrays(reply)
        metrics = dict(validated.contribution.metrics)
        round_.emit(ContributionReceived(round=round_.number, name=name, metrics=metrics))

    def _warn_of_cast_arrays(self, cast: Mapping[str, str]) -> None:
        if cast and not self._has_warned_of_casts:
            self._has_warned_of_casts = True
            name, change = next(iter(cast.items()))
            log(
                WARNING,
                "'%s' sent arrays of another precision (%s). The server casts them in all rounds. Clients should send "
                "the types that they were sent.",
                name,
                change,
            )

    def _warn_of_dropped_arrays(self, dropped: Mapping[str, int]) -> None:
        if dropped and not self._has_warned:
            self._has_warned = True
            name, number = next(iter(dropped.items()))
            log(
                WARNING,
                "'%s' sent %s that are not shared. The server ignores them in all rounds. Clients should send shared "
                "arrays only.",
                name,
                count(number, "array"),
            )


def _silence(round_: RoundState, timeout: float | None) -> str:
    """The reason why there is no reply, as a clause."""
    if _is_early(round_, timeout):
        return "it did not answer, or the strategy left its reply out"
    return silence(timeout)


def _is_early(round_: RoundState, timeout: float | None) -> bool:
    """Whether a contributor without a reply may not have had all of its time."""
    # Another loop than this package's own may have another timeout, and a subclass may look at the replies before.
    began = round_.record.began
    return timeout is not None and began is not None and time.time() - began < timeout
