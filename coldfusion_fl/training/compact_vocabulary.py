"""Training with those rows of the vocabulary alone that a task's texts use.

The gradient of the others is zero, and AdamW moves a weight whose gradient was always zero by its decay alone. So the
rows that are used are trained in an embedding of their own, and the others are shrunk at the end: the same weights, up
to rounding, without gradients, moments and updates for tens of thousands of rows (half of MiniLM, two thirds of
XLM-R).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class UnusedRows:
    """The rows that no text uses.

    Attributes:
        factor: by which they have shrunk so far.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def decay(self, rate: float) -> None:
        """One step's decoupled weight decay: learning rate times weight decay."""
        self.factor *= 1.0 - rate


@contextmanager
def used_rows(encoder: nn.Module, rows: Sequence[dict[str, Any]], padding: int | None) -> Iterator[UnusedRows]:
    """Within this, an encoder has an embedding of the tokens of some rows alone; it takes the same token ids as ever.

    An encoder whose embedding is no plain one, is frozen, or is used elsewhere in it too, keeps its whole embedding.

    Args:
        encoder: a Hugging Face encoder.
        rows: all tokenised rows that it will see, with `input_ids`.
        padding: the id that fills up batches.

    Yields:
        What is told of each step's weight decay.
    """
    unused = UnusedRows()
    try:
        whole = encoder.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # CANINE hashes characters
        whole = None
    if not _is_plain(whole, encoder):
        yield unused
        return
    ids = {token for row in rows for token in row["input_ids"]} | ({padding} - {None})
    narrow = _NarrowEmbedding(whole, torch.tensor(sorted(ids), device=whole.weight.device))
    encoder.set_input_embeddings(narrow)  # type: ignore[operator]
    try:
        yield unused
    finally:
        with torch.no_grad():
            whole.weight.mul_(unused.factor)
            whole.weight[narrow.used] = narrow.weight
        encoder.set_input_embeddings(whole)  # type: ignore[operator]


def _is_plain(embedding: nn.Module | None, encoder: nn.Module) -> bool:
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return False
    if not embedding.weight.requires_grad:
        return False
    owners = [weight for module in encoder.modules() for weight in module.parameters(recurse=False)]
    return sum(weight is embedding.weight for weight in owners) == 1


class _NarrowEmbedding(nn.Module):
    """Some rows of an embedding, under their ids in the whole one."""

    def __init__(self, whole: nn.Embedding, used: torch.Tensor) -> None:
        super().__init__()
        self.used = used
        # An id of no row here is out of range, and fails as one does.
        self.place = torch.full((whole.num_embeddings,), len(used), device=used.device)
        self.place[used] = torch.arange(len(used), device=used.device)
        self.padding_idx = None
        if whole.padding_idx is not None and bool((used == whole.padding_idx).any()):
            self.padding_idx = int(self.place[whole.padding_idx])
        self.weight = nn.Parameter(whole.weight.detach()[used].clone())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(self.place[ids], self.weight, self.padding_idx)
