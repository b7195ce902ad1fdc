"""Contributions that come when their round is over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder

# What the SuperLink answers in a node's place, where the node cannot be reached.
UNREACHABLE = frozenset(
    {
        ErrorCode.UNKNOWN,
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    }
)
# After so many rounds nobody is waited for any more.
_PATIENCE = 10


@dataclass(frozen=True)
class LateReply:
    """A reply that came too late.

    Attributes:
        name: its sender's.
        round: the round that it is of.
        reply: what came.
    """

    name: str
    round: int
    reply: Message


class Stragglers:
    """Those that did not answer in their round, and may yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, int]] = {}

    def expect(self, server_round: int, sent: Mapping[str, Message]) -> None:
        """Remember what was sent, by contributor, and not answered in its round."""
        self._waiting = {
            message_id: (name, number)
            for message_id, (name, number) in self._waiting.items()
            if server_round - number < _PATIENCE
        }
        self._waiting |= {message.metadata.message_id: (name, server_round) for name, message in sent.items()}

    def arrived(self, grid: Grid) -> Iterator[LateReply]:
        """What has arrived since, each once, one in memory at a time; of one contributor's the newest first."""
        for message_id, (name, number) in reversed(list(self._waiting.items())):
            for reply in grid.pull_messages([message_id]):
                if reply.has_error() and reply.error.code in UNREACHABLE:
                    continue  # it is still away
                self._waiting.pop(message_id, None)
                yield LateReply(name, number, reply)


def rebase_update(
    candidate: Candidate,
    then: Encoder,
    now: Encoder,
    factor: float,
    array_file: ArrayFile,
) -> Candidate:
    """A late contribution as one to the base of now: θ_now + f·(θ_c − θ_then), in the arrays' own types.

    Stale updates are made smaller, as in asynchronous federated optimisation (Xie et al. 2019).

    Args:
        candidate: the contribution, on disk.
        then: the base that it began with.
        now: the base that it is to be fused with.
        factor: what is left of its update.
        array_file: where it is put aside.
    """
    encoder = candidate.contribution.encoder
    moved = {
        name: array if not np.issubdtype(array.dtype, np.floating) else _moved(encoder[name], then[name], array, factor)
        for name, array in now.items()
    }
    contribution = replace(candidate.contribution, encoder=array_file.put(moved))
    return replace(candidate, contribution=contribution, norm=factor * candidate.norm)


def _moved(encoder: np.ndarray, then: np.ndarray, now: np.ndarray, factor: float) -> np.ndarray:
    return (now + factor * (encoder.astype(np.float32) - then)).astype(now.dtype)
