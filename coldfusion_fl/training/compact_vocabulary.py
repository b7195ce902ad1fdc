"""Training with only those rows of the token embedding that a task's texts use.

The gradient of an unused row is always zero, so AdamW changes it by weight decay alone. The used rows are therefore
trained in a smaller embedding, and the unused rows are scaled once at the end. The weights are the same up to
rounding. Tens of thousands of rows (half of MiniLM's weights, two thirds of XLM-R's) need no gradients, moments and
updates.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class DeferredWeightDecay:
    """The weight decay of the unused rows, accumulated over the steps and applied at the end.

    Attributes:
        factor: the product of the decay factors so far.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def step(self, rate: float) -> None:
        """Accumulate one step of decoupled weight decay; `rate` is the learning rate times the weight decay."""
        self.factor *= 1.0 - rate


@contextmanager
def compact_vocabulary(
    encoder: nn.Module, rows: Sequence[dict[str, Any]], padding: int | None
) -> Iterator[DeferredWeightDecay]:
    """A context in which the encoder's token embedding holds only the tokens of some rows; the token ids stay the same.

    The encoder keeps its full embedding if that is not a plain `nn.Embedding`, is frozen, or is shared with another
    module.

    Args:
        encoder: a Hugging Face encoder.
        rows: all tokenised rows that the encoder will read, with `input_ids`.
        padding: the id of the padding token.

    Yields:
        The deferred weight decay; the training loop calls its `step` at each optimizer step.
    """
    deferred_decay = DeferredWeightDecay()
    try:
        full = encoder.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # CANINE hashes characters and has no token embedding
        full = None
    if not _can_be_compacted(full, encoder):
        yield deferred_decay
        return
    ids = {token for row in rows for token in row["input_ids"]} | ({padding} - {None})
    compact = _CompactEmbedding(full, torch.tensor(sorted(ids), device=full.weight.device))
    encoder.set_input_embeddings(compact)  # type: ignore[operator]
    try:
        yield deferred_decay
    finally:
        # The decay scales all rows, and the trained rows then replace theirs.
        with torch.no_grad():
            full.weight.mul_(deferred_decay.factor)
            full.weight[compact.used_ids] = compact.weight
        encoder.set_input_embeddings(full)  # type: ignore[operator]


def _can_be_compacted(embedding: nn.Module | None, encoder: nn.Module) -> bool:
    # max_norm and scale_grad_by_freq change rows in ways that the deferred decay does not cover.
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return False
    if not embedding.weight.requires_grad:
        return False
    owners = [weight for module in encoder.modules() for weight in module.parameters(recurse=False)]
    return sum(weight is embedding.weight for weight in owners) == 1


class _CompactEmbedding(nn.Module):
    """Some rows of an embedding, which are looked up by their ids in the full one."""

    def __init__(self, full: nn.Embedding, used_ids: torch.Tensor) -> None:
        super().__init__()
        self.used_ids = used_ids
        # An unused id maps behind the last row, so that looking it up raises an IndexError.
        self.row_of_id = torch.full((full.num_embeddings,), len(used_ids), device=used_ids.device)
        self.row_of_id[used_ids] = torch.arange(len(used_ids), device=used_ids.device)
        self.padding_idx = None
        if full.padding_idx is not None and bool((used_ids == full.padding_idx).any()):
            self.padding_idx = int(self.row_of_id[full.padding_idx])
        self.weight = nn.Parameter(full.weight.detach()[used_ids].clone())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(self.row_of_id[ids], self.weight, self.padding_idx)
