"""The check that a checkpoint has the vocabulary of its base, possibly with added tokens."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from coldfusion_fl.errors import MismatchError, count
from coldfusion_fl.model.base import Base

_SHOWN_TOKENS = 3
_TOKENIZER_FILES = ("tokenizer*", "vocab.*", "merges.txt", "bpe.codes", "*.model", "*.tiktoken")


def compare_vocabulary(base: Base, folder: Path, config: Any, reference: str, rows: int, base_rows: int) -> list[str]:
    """Check that the rows of a checkpoint's token embedding belong to the base's tokens, and begin with them.

    Args:
        base: the base.
        folder: the checkpoint's folder. It needs no tokenizer if it has as many rows as the base.
        config: the checkpoint's configuration.
        reference: the folder as the user wrote it, for messages.
        rows: rows of the checkpoint's token embedding.
        base_rows: rows of the base's.

    Returns:
        Warnings as sentences, such as which tokens were added.

    Raises:
        MismatchError: the vocabulary is another one; the message has the figures.
    """
    figures = f"its token embedding has {rows} rows, and the base's has {base_rows}"
    # Most checkpoints have their base's very file. Reading a tokenizer takes longer than reading a small model.
    if rows == base_rows and _same_tokenizer(base.folder, folder):
        return []
    vocabulary = _read_vocabulary(folder, config)
    if vocabulary is None:
        if rows != base_rows:
            raise MismatchError(
                f"{reference}: {figures}, and it has no tokenizer that can be read, so the rows cannot be compared. "
                "Put its tokenizer into the folder."
            )
        return ["it has no tokenizer that can be read. Its tokens are taken for the base's."]
    ours = base.tokenizer.get_vocab()
    if moved := sorted(token for token, number in ours.items() if vocabulary.get(token) != number):
        raise MismatchError(
            f"{reference}: its vocabulary is another one: {len(moved)} of the base's {count(len(ours), 'token')} are "
            f"missing or have other ids, for example {moved[0]!r}; {figures}. Only checkpoints that were finetuned "
            "from this base can be fused."
        )
    if rows < base_rows:
        raise MismatchError(
            f"{reference}: {figures}, so rows are missing. Do not shrink the embedding of a checkpoint."
        )
    return _describe_growth(sorted(vocabulary.keys() - ours.keys(), key=vocabulary.__getitem__), rows - base_rows)


def _describe_growth(added: list[str], more_rows: int) -> list[str]:
    if not added and not more_rows:
        return []
    shown = ", ".join(map(repr, added[:_SHOWN_TOKENS])) + (", ..." if len(added) > _SHOWN_TOKENS else "")
    tokens = f"{count(len(added), 'added token')} ({shown})" if added else "no added tokens"
    if more_rows:
        rows = f"{count(more_rows, 'row')} more than the base's token embedding, which {_are(more_rows)} left out"
    else:
        rows = "no more rows than the base's token embedding"
    return [f"it has {tokens} and {rows}. The result has the base's vocabulary."]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _same_tokenizer(base: Path, folder: Path) -> bool:
    ours, own = (one / "tokenizer.json" for one in (base, folder))
    return ours.is_file() and own.is_file() and ours.read_bytes() == own.read_bytes()


def _read_vocabulary(folder: Path, config: Any) -> dict[str, int] | None:
    """The ids of a folder's tokens; None if it has no tokenizer that can be read. Code in the folder is never run."""
    # Without any file, transformers makes a tokenizer that knows no words.
    if not any(file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    except Exception:  # the type depends on the kind of tokenizer
        return None
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary
