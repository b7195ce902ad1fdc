"""The tokens of a split's rows, counted before a run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import DataError, first_line
from coldfusion_fl.model.base import Base
from coldfusion_fl.training.batches import tokenize

_CHUNK = 1000  # rows that are tokenised at once, so that memory does not grow with the split
# A core tokenises about a million characters in a second, and a data set may have hundreds of millions.
_MAX_CHARACTERS = 50_000
# Few texts have as many characters for each token.
_CHARACTERS_PER_TOKEN = 10


@dataclass(frozen=True)
class TokenCounts:
    """The tokens of a split.

    Attributes:
        rows: the indices of the rows that were tokenised, shape (n,), int64.
        lengths: their numbers of tokens, shape (n,), int64.
        unknown: the number of unknown tokens in all of them.
    """

    rows: np.ndarray
    lengths: np.ndarray
    unknown: int

    def longest(self, count: int) -> np.ndarray:
        """The indices of the rows with the most tokens, shape (k,)."""
        return self.rows[np.argsort(-self.lengths, kind="stable")[:count]]


def count_tokens(base: Base, examples: Examples, max_length: int, split: str, longest: int) -> TokenCounts:
    """Tokenise the rows of a split.

    All rows are tokenised, unless the split is large. Then these are the longest rows and a part of the others: a fast
    tokenizer accepts any valid Unicode text, and that all rows are such texts is checked in a moment.

    Args:
        base: the base.
        examples: the rows.
        max_length: the length in tokens that texts are cut at.
        split: the name of the split, for messages.
        longest: the number of longest rows that are tokenised in any case.

    Raises:
        DataError: the tokenizer cannot read a row.
    """
    rows = _choose_rows(base, examples, max_length, longest)
    lengths: list[int] = []
    unknown = 0
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        for ids in _token_ids(base, examples, chunk, max_length, split):
            lengths.append(len(ids))
            unknown += ids.count(base.tokenizer.unk_token_id)
    return TokenCounts(rows, np.array(lengths), unknown)


def _choose_rows(base: Base, examples: Examples, max_length: int, longest: int) -> np.ndarray:
    """The indices of the rows to tokenise, shape (n,)."""
    texts = [*examples.texts, *(examples.pairs or ())]
    all_rows = np.arange(len(examples))
    if not base.tokenizer.is_fast or not _are_valid(texts):
        return all_rows
    characters = np.array([len(text) for text in texts]).reshape(-1, len(examples)).sum(axis=0)
    step = math.ceil(characters.sum() / _MAX_CHARACTERS)
    if step <= 1:
        return all_rows
    # Texts that are cut anyway are equally long, and the longest of them would take seconds.
    lengths = np.minimum(characters, max_length * _CHARACTERS_PER_TOKEN)
    return np.union1d(np.argsort(-lengths, kind="stable")[:longest], all_rows[::step])


def _are_valid(texts: list[str]) -> bool:
    """Whether all are texts of valid Unicode."""
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def _token_ids(base: Base, examples: Examples, rows: np.ndarray, max_length: int, split: str) -> Iterator[list[int]]:
    """The token ids of some rows. If the tokenizer fails, the error names the first row that it cannot read."""
    try:
        tokenized = tokenize(base.tokenizer, examples.take(rows), max_length)
    except Exception as failure:  # each tokenizer raises another type
        for row in rows if len(rows) > 1 else ():
            _ = list(_token_ids(base, examples, np.array([row]), max_length, split))
        raise DataError(
            f"the tokenizer of {base.reference} cannot read row {rows[0] + 1} of the {split} split: "
            f"{type(failure).__name__}: {first_line(failure)}"
        ) from None
    for row in tokenized:
        yield row["input_ids"]
