"""A base's tokenizer: loaded, checked, and fitted to the model's positions and inputs."""

import importlib
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from coldfusion_fl.errors import ErrorCode, ModelError, count, first_line
from coldfusion_fl.extras import install_command
from coldfusion_fl.model.architecture import accepted_inputs, get_encoder

_FIELDS = ("input_ids", "attention_mask", "token_type_ids")
_PLAIN_TEXT = "The quick brown fox jumps over the lazy dog."
# A limit below this leaves no room for the texts of a pair beside the special tokens.
_FEWEST_TOKENS = 8


def load_tokenizer(folder: Path, config: Any, reference: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder. Code in the folder is never run.

    Args:
        folder: the model folder.
        config: the model's configuration, which decides the class of the tokenizer.
        reference: the folder as the user wrote it, for messages.

    Raises:
        ModelError: it cannot be loaded, cannot pad, or knows no words.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    # The type of the exception depends on the kind of tokenizer.
    except Exception as failure:
        _check_package(folder, reference)
        raise ModelError(
            f"{reference}: its tokenizer cannot be loaded: {first_line(failure).rstrip('.')}. Code in the folder is "
            "never run. Save the tokenizer with save_pretrained of a recent transformers, which writes tokenizer.json."
        ) from None
    tokenizer.init_kwargs.pop("auto_map", None)  # it would be saved again
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{reference}: its tokenizer has no padding token, so texts of different lengths cannot form a batch. "
            "Set tokenizer.pad_token, for example to the end token, and save the tokenizer with save_pretrained.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    if not _knows_words(tokenizer, reference):
        _check_package(folder, reference)
        raise ModelError(
            f"{reference}: its tokenizer knows no words (it has {count(len(tokenizer), 'token')}). Copy the files of "
            "the tokenizer, such as tokenizer.json, into the folder."
        )
    return tokenizer


def _check_package(folder: Path, reference: str) -> None:
    """Raise an error that names the package that reads the tokenizer's file, if it is missing."""
    files = [*sorted(folder.glob("*.tiktoken")), *sorted(folder.glob("*.model"))]
    if (folder / "tokenizer.json").is_file() or not files:
        return
    # A SentencePiece model is a protobuf message, whose first byte is a line feed; tiktoken's files are lines of text.
    is_sentencepiece = files[0].read_bytes()[:1] == b"\n"
    command = install_command("sentencepiece") if is_sentencepiece else "pip install tiktoken"
    try:
        importlib.import_module("sentencepiece.sentencepiece_model_pb2" if is_sentencepiece else "tiktoken")
    # A release that was built with a newer protobuf raises an exception of protobuf's.
    except Exception as failure:
        raise ModelError(
            f"{reference}: its tokenizer has no tokenizer.json, and the package that reads {files[0].name} cannot be "
            f"used ({first_line(failure)}). Install it: {command}",
            code=ErrorCode.EXTRA_MISSING,
        ) from None


def _knows_words(tokenizer: PreTrainedTokenizerBase, reference: str) -> bool:
    """Whether the tokenizer knows words; without its files, transformers makes one that knows none."""
    special = set(tokenizer.all_special_ids)
    words = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    # A vocabulary for another script or for proteins need not know an English text, but its own words.
    some_words = str(tokenizer.decode(words[:: max(1, len(words) // 20)]))
    tokens = [_tokenize(tokenizer, reference, text)["input_ids"] for text in (_PLAIN_TEXT, some_words)]
    return any(set(ids) - special for ids in tokens)


def _tokenize(tokenizer: PreTrainedTokenizerBase, reference: str, *texts: str) -> Any:
    try:
        return tokenizer(*texts)
    # Tokenizers for other inputs than texts, or with a broken vocabulary, raise exceptions of many types.
    except Exception as failure:
        raise ModelError(f"{reference}: its tokenizer cannot tokenise a plain text: {first_line(failure)}") from None


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, model: nn.Module, config: Any, reference: str) -> tuple[str, ...]:
    """Make the tokenizer produce only what the model can read, in place.

    Args:
        tokenizer: the tokenizer of `load_tokenizer`.
        model: the model with a head; its weights may be on the meta device.
        config: the model's configuration.
        reference: the folder as the user wrote it, for messages.

    Returns:
        Notes as sentences.

    Raises:
        ModelError: the tokenizer's ids, its inputs or its limit do not fit the model.
    """
    notes = _check_ids(tokenizer, get_encoder(model), reference)
    # With absolute positions, padding on the left would move the text.
    tokenizer.padding_side = "right"
    inputs = accepted_inputs(model)
    names = [name for name in tokenizer.model_input_names if name in inputs]
    tokenizer.model_input_names = [*names, *(["attention_mask"] if "attention_mask" not in names else [])]
    tokens = _tokenize(tokenizer, reference, _PLAIN_TEXT, _PLAIN_TEXT)
    if unknown := sorted(tokens.keys() - set(_FIELDS)):
        raise ModelError(
            f"{reference}: its tokenizer produces {', '.join(unknown)}, so the model reads more than texts. "
            "Use an encoder of texts such as BERT, RoBERTa or ModernBERT.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    types = _find_embedding(get_encoder(model), "token_type")
    largest = max([tokenizer.pad_token_type_id, *tokens.get("token_type_ids", [])])
    if types is not None and largest >= len(types.weight):
        # Without these ids, the model uses the type 0 for all tokens.
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    _limit_length(tokenizer, get_encoder(model), config, reference)
    return notes


def _check_ids(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, reference: str) -> tuple[str, ...]:
    """Check that the embedding has a row for each token; returns a note if it has far more rows."""
    try:
        embedding = encoder.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # CANINE hashes characters and has no token embedding
        return ()
    if not hasattr(embedding, "weight"):  # the Perceiver returns its latent vectors
        return ()
    rows, vocabulary = len(embedding.weight), tokenizer.get_vocab()
    beyond = [token for token, number in vocabulary.items() if number >= rows]
    if beyond:
        raise ModelError(
            f"{reference}: its tokenizer has {count(len(beyond), 'token')} that the model's embedding of {rows} rows "
            f"lacks, for example '{min(beyond)}'. Use the model's own tokenizer, or resize the model with "
            "model.resize_token_embeddings(len(tokenizer)) and save both with save_pretrained.",
        )
    if 2 * len(vocabulary) < rows:
        return (
            f"the tokenizer has {len(vocabulary)} tokens, but the model's embedding {rows} rows. Check that the "
            "tokenizer belongs to this model.",
        )
    return ()


def _find_embedding(encoder: nn.Module, word: str) -> Any:
    """The first embedding with a word in its own name, or None."""
    return next(
        (
            module
            for name, module in encoder.named_modules()
            if word in name.rpartition(".")[2] and hasattr(module, "weight")
        ),
        None,
    )


def _limit_length(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, config: Any, reference: str) -> None:
    """Make the tokenizer truncate texts to the positions that the model has, if its own limit is higher."""
    try:
        limit = int(tokenizer.model_max_length)
    except (TypeError, ValueError, OverflowError):
        limit = 0
    positions = getattr(config, "max_position_embeddings", None)
    embedding = _find_embedding(encoder, "position_embeddings")
    padding = getattr(embedding, "padding_idx", None)
    if padding is not None:
        # In RoBERTa and similar models, the positions start after the id of the padding token.
        limit = min(limit, len(embedding.weight) - padding - 1)
    elif isinstance(positions, int) and 0 < positions < limit:
        # One position stays unused: results with tokenizers without a limit remain the same as in earlier versions.
        limit = positions - 1
    if limit < _FEWEST_TOKENS:
        raise ModelError(
            f"{reference}: texts would be truncated to {count(limit, 'token')} (model_max_length in "
            f"tokenizer_config.json is {tokenizer.model_max_length}). Set it to the model's number of positions."
        )
    tokenizer.model_max_length = limit
