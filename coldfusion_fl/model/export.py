"""The folder of a fused model: new weights beside the files of the base's folder that still describe the model.

Files are carried over by name, so that nothing else of the base's folder (checkpoints, other formats of the old
weights, data) is in the result. Their content is copied, without links and modes, because a base may be read-only or a
snapshot of links.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from huggingface_hub.repocard import metadata_load
from transformers import AutoConfig, AutoTokenizer

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import disk_errors, share_weights
from coldfusion_fl.errors import ModelError, first_line
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, get_encoder, merge
from coldfusion_fl.model.links import check_links
from coldfusion_fl.model.sentence_modules import MODULES_FILE, read_modules

# The files of the common tokenizers. The class of a tokenizer may name more.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "spm.model", "spiece.model", "sentencepiece.bpe.model",
    "tokenizer.model",
)  # fmt: skip
_NAMED_FILES = (
    re.compile(r"tokenizer\.[0-9.]+\.json"),  # of a tokenizer with one file for each version of transformers
    re.compile(r"modules\.json|config_sentence_transformers\.json|sentence_.*_config\.json"),
    re.compile(r"(licen[cs]e|copying|notice)([-_. ].*)?", re.IGNORECASE),
)
_TOKENIZER_CONFIG = "tokenizer_config.json"
_LICENCE_KEYS = ("license", "license_name", "license_link")
_SAMPLE = "The quick brown fox: 42 naïve cafés, 東京!"


def save_model(base: Base, encoder: Encoder, folder: Path) -> None:
    """Write an encoder as a model folder that transformers and sentence-transformers load like the base's folder.

    Args:
        base: the base whose files are carried over.
        encoder: the weights to write.
        folder: the folder to create; it must not exist.

    Raises:
        MismatchError: the encoder does not fit the base's architecture.
        ModelError: a file of the base's folder cannot be carried over.
    """
    # The folder holds an encoder without a head. Its integer buffers are not part of the arrays, and a pooler that
    # the encoder lacks must not be written with random weights.
    model = build_model(base, num_labels=2, head="class-token", seed=0)
    merge(model, encoder)
    module: Any = get_encoder(model)
    buffers = {name: value for name, value in module.state_dict().items() if not value.is_floating_point()}
    weights: dict[str, torch.Tensor] = {name: module.state_dict()[name] for name in encoder}
    folder.mkdir()
    _carry_files(base, folder)
    module.save_pretrained(folder, state_dict=weights | buffers)
    share_weights(folder, "config.json")


def check_export(base: Base) -> None:
    """Write the folder of a fused model into a temporary place, without the weights, and load it.

    The weights are left out because they take time, and because `load_encoder` checks them.

    Raises:
        ModelError: a file of the base's folder cannot be carried over, or the folder does not load like the base's.
    """
    place = Path(tempfile.gettempdir())
    with disk_errors(place), tempfile.TemporaryDirectory(prefix="coldfusion-", dir=place) as temporary:
        folder = Path(temporary)
        _carry_files(base, folder)
        base.config.save_pretrained(folder)
        try:
            AutoConfig.from_pretrained(folder, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        # The type of the exception depends on the kind of tokenizer.
        except Exception as failure:
            raise ModelError(
                f"{base.reference}: a model folder with this base's files cannot be loaded: "
                f"{first_line(failure).rstrip('.')}. Save its model and its tokenizer again with save_pretrained."
            ) from None
        if tokenizer(_SAMPLE)["input_ids"] != base.tokenizer(_SAMPLE)["input_ids"]:
            raise ModelError(
                f"{base.reference}: its tokenizer needs a file that is not one of {type(tokenizer).__name__}'s, so a "
                "fused model could not use it. Save the tokenizer again with its save_pretrained."
            )


def read_licence(folder: Path) -> dict[str, Any]:
    """The licence in the YAML header of a folder's README.md: `license`, `license_name` and `license_link`.

    Returns:
        The keys that the header has; empty if there is no README.md, or none can be read from it.
    """
    file = folder / "README.md"
    try:
        header = (metadata_load(file) if file.is_file() else None) or {}
    except Exception:  # a header that is no YAML raises the types of the YAML library
        return {}
    return {key: header[key] for key in _LICENCE_KEYS if _is_text(header.get(key))}


def describes_model(name: str) -> bool:
    """Whether a file of this name belongs to a tokenizer or to sentence-transformers, or is a licence."""
    return name in _TOKENIZER_FILES or any(pattern.fullmatch(name) for pattern in _NAMED_FILES)


def _carry_files(base: Base, folder: Path) -> None:
    """Copy the content of the carried files into a folder.

    Raises:
        ModelError: a file cannot be read, or a link leads out of the base's folder. An error of writing stays an
            `OSError`: the caller knows its folder.
    """
    check_links(base.folder, base.reference)  # again: the folder was opened before the rounds
    for path in sorted(set(_carried_files(base))):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source = (base.folder / path).open("rb")
        except OSError as failure:
            raise ModelError(
                f"{base.reference}: {path} cannot be read: {failure.strerror}. Make it readable."
            ) from None
        with source, target.open("wb") as copy:
            if path.name == _TOKENIZER_CONFIG:
                copy.write(_without_code(source.read()))
            else:
                shutil.copyfileobj(source, copy)


def _without_code(content: bytes) -> bytes:
    """A tokenizer_config.json that names no code: the files with the code are not carried over."""
    if b"auto_map" not in content:
        return content
    try:
        values = json.loads(content)
        return json.dumps({name: value for name, value in values.items() if name != "auto_map"}, indent=2).encode()
    except (ValueError, AttributeError):  # it is not a table, and no tokenizer is loaded by it
        return content


def _carried_files(base: Base) -> Iterator[Path]:
    """The files that are carried over, relative to the base's folder. Only regular files are: a pipe could block."""
    class_files = [name for names in type(base.tokenizer).vocab_files_names.values() for name in _as_list(names)]
    for path in base.folder.iterdir():
        if (path.name in class_files or describes_model(path.name)) and path.is_file():
            yield Path(path.name)
    # `1_Pooling` also says which head the base was pretrained for, with or without a modules.json.
    for place in ("1_Pooling", *_module_paths(base)):
        if (base.folder / place).is_file():
            yield Path(place)
        for parent, _, names in os.walk(base.folder / place):
            files = (Path(parent) / name for name in names)
            yield from (file.relative_to(base.folder) for file in files if file.is_file())


def _module_paths(base: Base) -> Iterator[str]:
    """The paths that modules.json names, without the folder itself, where the encoder is.

    Raises:
        ModelError: the file cannot be read, a path leads out of the folder, or the encoder is elsewhere.
    """
    file = base.folder / MODULES_FILE
    for module in read_modules(base.folder):
        path = PurePosixPath(module.path)
        if path.is_absolute() or ".." in path.parts or "\0" in module.path:
            raise ModelError(
                f"{file}: the path {module.path!r} leads out of the model folder. Repair or delete the file."
            )
        if path.parts and module.kind == "Transformer":
            raise ModelError(
                f"{file}: the encoder of this model is in '{path}', so the model folder's own weights are not those "
                f"that sentence-transformers loads. Give {base.folder / path} as the base, or delete {MODULES_FILE}."
            )
        if path.parts:
            yield str(path)


def _is_text(value: Any) -> bool:
    """Whether a value of a header is a text or a list of texts."""
    return bool(value) and all(isinstance(part, str) for part in (value if isinstance(value, list) else [value]))


def _as_list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names
