"""The pooling that a model was pretrained with, as sentence-transformers writes it into a model folder."""

from pathlib import Path
from typing import Any

from coldfusion_fl.errors import ModelError
from coldfusion_fl.model.architecture import has_mean_pooling
from coldfusion_fl.model.sentence_modules import MODULES_FILE, SentenceModule, read_json, read_modules

# sentence-transformers before 5.4 wrote one flag for each mode; since then it writes `pooling_mode`.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_HEADS = {"mean": "mean", "cls": "class-token"}
_DEFAULT_FOLDER = "1_Pooling"
_SENTENCE_FILES = (MODULES_FILE, "sentence_bert_config.json", "config_sentence_transformers.json")
# These modules add nothing to an encoder and a head.
_PLAIN_MODULES = ("Transformer", "Pooling", "Normalize")


def read_pooling(folder: Path, config: Any) -> tuple[str, tuple[str, ...]]:
    """The head that a model was pretrained for, and what a user should know about this choice.

    A sentence-embedding model names its pooling in a folder of its own, and a classifier of this package has it in its
    model type. All other models use the class token.

    Args:
        folder: the model folder.
        config: the model's configuration.

    Returns:
        `class-token` or `mean`, and notes as sentences.

    Raises:
        ModelError: a file cannot be read, or names no valid pooling.
    """
    own = folder / "config.json"
    if own.is_file() and has_mean_pooling(read_json(own)):
        return "mean", ()
    modules = read_modules(folder)
    file = next((file for file in _pooling_files(folder, modules) if file.is_file()), None)
    if file is None:
        return "class-token", (_note_without_pooling(folder, config),)
    head, notes = _choose_head(_read_modes(file), str(file.relative_to(folder)))
    if others := [module.kind for module in modules if module.kind not in _PLAIN_MODULES]:
        notes += (
            f"{MODULES_FILE} names modules that are not part of the encoder and are not used: {', '.join(others)}.",
        )
    return head, notes


def _pooling_files(folder: Path, modules: list[SentenceModule]) -> list[Path]:
    """The files that may name the pooling, the most certain one first."""
    paths = [module.path for module in modules if module.kind == "Pooling"]
    inside = [path for path in paths if (folder / path).resolve().is_relative_to(folder.resolve())]
    return [folder / path / "config.json" for path in [*inside, _DEFAULT_FOLDER]]


def _read_modes(file: Path) -> tuple[str, ...]:
    config = read_json(file)
    if not isinstance(config, dict):
        raise ModelError(f"{file}: it is not a table of settings. Repair the file, or delete it.")
    mode = config.get("pooling_mode")
    if mode is None:
        named = tuple(name for flag, name in _FLAGS.items() if config.get(flag))
        # The mean is the default of sentence-transformers, unless the file excludes it.
        return named or (() if "pooling_mode_mean_tokens" in config else ("mean",))
    modes = [mode] if isinstance(mode, str) else mode
    if not isinstance(modes, list) or not all(isinstance(name, str) for name in modes):
        raise ModelError(
            f"{file}: 'pooling_mode' is neither a name nor a list of names. Repair the file, or delete it."
        )
    return tuple(name.lower() for name in modes)


def _choose_head(modes: tuple[str, ...], file: str) -> tuple[str, tuple[str, ...]]:
    """The head that is closest to some pooling modes, and a note if it differs from them."""
    if len(modes) == 1 and modes[0] in _HEADS:
        return _HEADS[modes[0]], ()
    if not modes:
        return "class-token", (f'{file} names no pooling. With head = "auto", the head reads the class token.',)
    # Each other mode weights or combines the hidden states of all tokens, so the mean is closest.
    head = next((head for mode, head in _HEADS.items() if mode in modes), "mean")
    read = "the class token" if head == "class-token" else "the mean of the tokens"
    return head, (
        f"{file} names the pooling '{'+'.join(modes)}', which is not supported. With head = \"auto\", the head reads "
        f"{read} instead.",
    )


def _note_without_pooling(folder: Path, config: Any) -> str:
    own = getattr(config, "classifier_pooling", None) or "cls"
    if own != "cls":  # ModernBERT and EuroBERT
        return (
            f"the model's own head reads '{own}' of the tokens ('classifier_pooling' in config.json), but a frozen "
            'score reads the class token. With head = "mean", both read the mean.'
        )
    # Pretraining saves a model with its language-modelling head. An encoder alone may be a sentence-embedding model
    # that lost its pooling, as when a Trainer saves it.
    is_encoder = any(name.endswith("Model") for name in config.architectures or [])
    if is_encoder or any((folder / name).is_file() for name in _SENTENCE_FILES):
        return (
            f'the folder has no {_DEFAULT_FOLDER}, so with head = "auto" the head reads the class token. If this is a '
            'sentence-embedding model with mean pooling, set finetune.head = "mean".'
        )
    return 'the base names no pooling, so with head = "auto" the head reads the class token.'
