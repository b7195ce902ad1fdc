"""A base on disk: a model folder in Hugging Face format, opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from coldfusion_fl.data.paths import PACKAGE, expand_user, package_path
from coldfusion_fl.errors import DataError, ErrorCode, ModelError
from coldfusion_fl.hub import explain_failure, split_revision, uses_cache_only
from coldfusion_fl.model.architecture import build_skeleton, check_is_encoder, read_config
from coldfusion_fl.model.links import check_links
from coldfusion_fl.model.pooling import read_pooling
from coldfusion_fl.model.stored_weights import (
    WEIGHTS,
    check_config_sizes,
    check_model_size,
    read_size,
)
from coldfusion_fl.model.tokenizer import fit_tokenizer, load_tokenizer

# Hub repositories often hold the same weights in other formats too, which are never read.
_OTHER_WEIGHTS = ("*.bin", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.pt", "*.pth", "*.gguf", "*.tflite")
# A run folder has this file, and its model in this folder: see `runs.ledger`.
_RUN_FILE, _RUN_MODEL = "run.json", "model"
_LFS_POINTER = b"version https://git-lfs"
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

    @property
    def commit(self) -> str:
        """The commit of a model of the Hub; empty for a local folder."""
        return snapshot_commit(self.folder)

    def choose_head(self, setting: str) -> str:
        """The kind of head for a setting: `class-token` or `mean` as given; the model's own for `auto`."""
        return self.pooling if setting == "auto" else setting


def open_base(reference: str) -> Base:
    """Open a base, and check all that needs neither its weights nor rows. Code in its folder is never run.

    Args:
        reference: a folder, `package:PATH` inside an installed package, or a Hub id, which may end with @REVISION. A
            run folder stands for its model.

    Raises:
        ModelError: the model does not exist, its folder lacks the configuration, the weights or the tokenizer, these
            do not fit each other, or the model is not an encoder.
    """
    # Cheap checks come first, so that the common mistakes get a message of their own.
    folder = open_folder(reference)
    config, notes = read_config(folder, reference)
    check_is_encoder(config, reference)
    stored = read_size(folder, reference)
    check_config_sizes(config, stored, reference)
    tokenizer = load_tokenizer(folder, config, reference)
    if (folder / "adapter_config.json").exists():
        notes += ("adapter_config.json is ignored: the folder has no weights of an adapter.",)
    _set_padding(config, tokenizer)
    skeleton = build_skeleton(config, reference)
    check_model_size(skeleton, stored, reference)
    tokenizer_notes = fit_tokenizer(tokenizer, skeleton, config, reference)
    pooling, pooling_notes = read_pooling(folder, config)
    return Base(folder, reference, config, tokenizer, pooling, (*notes, *tokenizer_notes, *pooling_notes))


def open_folder(reference: str) -> Path:
    """The local folder of a model with a configuration and weights; a Hub id is downloaded, or taken from the cache.

    Args:
        reference: as in `open_base`.

    Raises:
        ModelError: the model does not exist, its folder lacks the configuration or the weights, a link leads out of it,
            or it is an adapter.
    """
    folder = resolve_folder(reference)
    _check_adapter(folder, reference)
    check_links(folder, reference)
    _check_files(folder, reference)
    return folder


def _check_files(folder: Path, reference: str) -> None:
    for file in (folder / "config.json", folder / WEIGHTS):
        if file.is_symlink() and not file.exists():
            raise ModelError(
                f"{reference}: {file.name} is a link to {file.readlink()}, which does not exist. Copy the file itself.",
                code=ErrorCode.MODEL_MISSING,
            )
    if not (folder / "config.json").is_file():
        inner = next((file.parent for file in sorted(folder.glob("0_*/config.json"))), None)
        advice = (
            f"The model is in its folder {inner.name}, an old layout of sentence-transformers. Load it with a recent "
            "sentence-transformers, and save it again."
            if inner
            else "Give a folder in the format of Hugging Face."
        )
        raise ModelError(f"{reference}: there is no config.json in {folder}. {advice}", code=ErrorCode.MODEL_MISSING)
    if not (folder / WEIGHTS).is_file() and not (folder / f"{WEIGHTS}.index.json").is_file():
        raise ModelError(
            f"{reference}: there are no weights in {folder} ({WEIGHTS}). Only safetensors files are read, because "
            "pickled weights (.bin) can contain code. Convert them with save_pretrained of a recent transformers.",
            code=ErrorCode.MODEL_MISSING,
        )
    if (folder / WEIGHTS).is_file():
        with (folder / WEIGHTS).open("rb") as weights:
            if weights.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ModelError(
                    f"{reference}: {WEIGHTS} is a pointer of Git LFS, not the weights. Run: git lfs pull",
                    code=ErrorCode.MODEL_MISSING,
                )


def _check_adapter(folder: Path, reference: str) -> None:
    # A configuration alone, as it may be left from a training, changes nothing.
    if any(folder.glob("adapter_model.*")):
        raise ModelError(
            f"{reference}: the folder holds an adapter of PEFT, which is not applied. Merge it into its model with "
            "merge_and_unload, and save the result with save_pretrained into a new folder.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )


def _set_padding(config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Use the tokenizer's padding token, if the configuration has none or one outside of the vocabulary.

    Any other padding token of the configuration stays: in RoBERTa and similar models it decides where the positions
    start. Padding itself is masked.
    """
    padding, size = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
    vocabulary = range(size) if isinstance(size, int) else None
    if padding is None or (vocabulary and padding not in vocabulary):
        own = tokenizer.pad_token_id
        config.pad_token_id = own if vocabulary is None or own in vocabulary else None


def resolve_folder(reference: str) -> Path:
    """The local folder of a reference; a Hub id is downloaded, or taken from the cache.

    A folder that exists comes before a model of the Hub, also if there is an @ in its name.

    Args:
        reference: as in `open_base`.

    Raises:
        ModelError: there is no such folder or model.
    """
    if reference.startswith(PACKAGE):
        try:
            return package_path(reference)
        except DataError as error:
            raise ModelError(str(error), code=error.code) from None
    path = expand_user(reference)
    if path.is_dir():
        return _model_of_run(path, reference) if (path / _RUN_FILE).is_file() else path
    # A Hub id has at most one slash. Anything that is clearly a path is not looked up on the Hub.
    name, revision = split_revision(reference)
    if path.is_absolute() or reference.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"{reference}: this folder does not exist.", code=ErrorCode.MODEL_MISSING)
    if "@" in reference and not revision:
        raise ModelError(
            f"{reference}: no local folder has this name, and no revision follows the @. Write ID@REVISION, with a "
            "branch, a tag or a commit of the Hub, or leave the @ out.",
            code=ErrorCode.MODEL_MISSING,
        )
    return _download(reference, name, revision)


def _download(reference: str, name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    ignored = [*_OTHER_WEIGHTS, *(f"{name}/*" for name in _OTHER_RUNTIMES)]
    try:
        return Path(
            snapshot_download(
                name, revision=revision or None, ignore_patterns=ignored, local_files_only=uses_cache_only()
            )
        )
    # The library raises exceptions of its own and of its HTTP client.
    except Exception as failure:
        reason, code = explain_failure("model", name, revision, failure)
        raise ModelError(
            f"{reference}: no local folder has this name, and loading the model from the Hugging Face Hub failed: "
            f"{reason}",
            code=code or ErrorCode.MODEL_MISSING,
        ) from None


def snapshot_commit(folder: Path) -> str:
    """The commit of a model folder in the cache of the Hub; empty for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def _model_of_run(folder: Path, reference: str) -> Path:
    """The model in a run folder, which is written when the run ends."""
    if not (folder / _RUN_MODEL).is_dir():
        raise ModelError(
            f"{reference}: this run has no model yet. Finish it first: coldfusion run --resume {reference}",
            code=ErrorCode.MODEL_MISSING,
        )
    if not (folder / _RUN_MODEL).resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"{reference}: its {_RUN_MODEL} is a link to {(folder / _RUN_MODEL).readlink()}, which is outside of the "
            "run folder. Give the model folder itself.",
            code=ErrorCode.MODEL_LINK,
        )
    return folder / _RUN_MODEL


# Without this, transformers prints progress bars and warnings about new heads between the lines of a run's display.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
