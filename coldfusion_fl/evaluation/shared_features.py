"""Features of test rows that several tasks have, encoded once.

All shards of a data set have the same test rows. A process that scores several of them on one base encodes these rows
for the first one. The others get the same array, so their scores are the same to the last digit.
"""

from collections.abc import Callable

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.data.task import Examples
from coldfusion_fl.model.base import Base


class SharedFeatures:
    """Keeps the features of the rows that were encoded last."""

    def __init__(self) -> None:
        self._last: tuple[Base, tuple[object, ...], np.ndarray] | None = None

    def encode(
        self,
        base: Base,
        encoder: Encoder,
        rows: Examples,
        head: str,
        max_length: int,
        compute: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """The features of rows, computed or those of the last call; shape (n, size), and read-only.

        Args:
            base: the base, for its architecture and tokenizer.
            encoder: arrays by name.
            rows: the rows, of which the labels do not matter.
            head: `class-token` or `mean`.
            max_length: the longest text, in tokens.
            compute: encodes the rows.
        """
        # The arrays arrive anew with each message of a server, so only their content tells that they are the same.
        key = (encoder_hash(encoder), head, max_length, rows.texts, rows.pairs)
        last = self._last  # once, as another thread may replace it
        if last and last[0] is base and last[1] == key:
            return last[2]
        features = compute()
        features.setflags(write=False)
        self._last = (base, key, features)
        return features
