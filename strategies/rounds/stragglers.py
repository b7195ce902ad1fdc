"""Contributions that arrive after their round is over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Message, Metadata
from flwr.serverapp import Grid

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder

from ..nodes.messaging import UNREACHABLE
from ..nodes.replies import pull_replies

# A contributor that did not answer for this number of rounds is no longer polled.
_MAX_ROUNDS = 10


@dataclass(frozen=True)
class LateReply:
    """A reply that arrived after its round.

    Attributes:
        name: the contributor.
        round: the round that it belongs to.
        reply: the reply.
    """

    name: str
    round: int
    reply: Message


class Stragglers:
    """The contributors that did not answer in their round and may answer later."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, int, Metadata]] = {}

    def expect(self, server_round: int, sent: Mapping[str, Message]) -> None:
        """Note the messages, by contributor, that were not answered in their round."""
        self._waiting = {
            message_id: waiting
            for message_id, waiting in self._waiting.items()
            if server_round - waiting[1] < _MAX_ROUNDS
        }
        # Only their metadata: the messages hold the base of their round.
        self._waiting |= {
            message.metadata.message_id: (name, server_round, message.metadata) for name, message in sent.items()
        }

    def arrived(self, grid: Grid, deadline: float) -> Iterator[LateReply]:
        """The replies that have arrived, each once, with one in memory at a time; a contributor's newest first.

        Args:
            grid: Flower's grid.
            deadline: as in `pull_replies`, for all of them together.
        """
        for message_id, (name, number, sent) in reversed(list(self._waiting.items())):
            for reply in pull_replies(grid, sent, deadline):
                if reply.has_error() and reply.error.code in UNREACHABLE:
                    continue  # the node may still answer
                self._waiting.pop(message_id, None)
                yield LateReply(name, number, reply)


def rebase_update(
    candidate: Candidate, start: Encoder, base: Encoder, factor: float, array_file: ArrayFile
) -> Candidate:
    """A late contribution as one to the current base: θ + f·(θ_c − θ_start), in the dtypes of the arrays.

    Stale updates are scaled down, as in asynchronous federated optimisation (Xie et al. 2019, arXiv 1903.03934).

    Args:
        candidate: the contribution, on disk.
        start: the base that it was trained on.
        base: the base that it is to be fused with.
        factor: f, the scale of its update.
        array_file: the file that takes the new arrays.
    """
    encoder = candidate.contribution.encoder
    rebased = {
        name: array
        if not np.issubdtype(array.dtype, np.floating)
        else (array + factor * (encoder[name].astype(np.float32) - start[name])).astype(array.dtype)
        for name, array in base.items()
    }
    contribution = replace(candidate.contribution, encoder=array_file.put(rebased))
    return replace(candidate, contribution=contribution, norm=factor * candidate.norm, scale=factor)
