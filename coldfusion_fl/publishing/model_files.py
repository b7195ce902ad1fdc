"""The files of a model folder that may be published: those of the model and its card, and nothing beside them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.card import place_card
from coldfusion_fl.model.export import describes_model
from coldfusion_fl.model.sentence_modules import read_modules

CARD = "README.md"
_WEIGHTS = re.compile(r"(model|model-\d+-of-\d+)\.safetensors")
_MODEL_FILES = ("config.json", "model.safetensors.index.json", CARD)
_MODULE = re.compile(r"\d+_[A-Z]\w*/.+\.(json|safetensors)")  # as sentence-transformers names them: 2_Dense
_WEIGHTS_OF_ANY_FORMAT = re.compile(r"\.(safetensors|bin|h5|msgpack|onnx([._]data)?|gguf|pt|pth)$")
_ONNX = re.compile(r"(onnx/)?[\w.-]+\.onnx([._]data)?")
# In the cards of this package. Other hashes in a card are of what the model was made from.
_OWN_HASH = re.compile(r"SHA-256 of this model's arrays: ([0-9a-f]{64})")
# In these, a token of the vocabulary can look like a path.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_PLACES = "home|Users|root|tmp|mnt|media|data|srv|opt|var|work|scratch|workspace|content"
# An absolute path: not the end of another path, an address or a word.
_PATH = re.compile(rf"(?<![\w/:.@~-])(?:/(?:{_PLACES})/|~/|[A-Za-z]:\\\\?Users\\)[^\s\"'`<>|)\]]+")


@dataclass(frozen=True)
class ModelFiles:
    """What is sent of a model folder.

    Attributes:
        files: the files by their path in the repository, without the card.
        card: the text of the card.
        left_out: the paths in the folder that are not sent.
    """

    files: Mapping[str, Path]
    card: str
    left_out: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file, by path; the card is one of them."""
        sizes = {path: file.stat().st_size for path, file in self.files.items()}
        return dict(sorted({**sizes, CARD: len(self.card.encode())}.items()))

    @property
    def weights(self) -> tuple[str, ...]:
        """The paths of the weights."""
        return tuple(path for path in self.files if is_weights(path))


def is_weights(path: str) -> bool:
    """Whether a file of a repository has weights, in any format that models are saved in."""
    return bool(_WEIGHTS_OF_ANY_FORMAT.search(path))


def belongs_to_model(path: str) -> bool:
    """Whether a file of a repository is part of a model: weights in any format, or what `collect_files` may select."""
    return is_weights(path) or _has_known_name(path) or bool(_MODULE.fullmatch(path))


def model_hash(card: str) -> str:
    """The SHA-256 of the arrays of the model that a card is of; empty: the card does not have it."""
    found = _OWN_HASH.search(card)
    return found[1] if found else ""


def collect_files(folder: Path, repository: str, card: str | None = None) -> ModelFiles:
    """The files of a model folder that may be published, and its card for a repository.

    Args:
        folder: the model folder.
        repository: the id of the repository, which the code in the card then names.
        card: the text of the card; None: the folder's `README.md`.

    Raises:
        ModelError: there is no card, its header cannot be read, or a file names a path of this machine.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sent = set(_select(folder, paths))
    if card is None:
        card = _read_card(folder)
    try:
        placed = place_card(card, repository)
    except Exception as failure:  # the YAML library raises types of its own
        raise ModelError(f"{folder / CARD}: its header cannot be read: {failure}. Repair or remove it.") from None
    files = {path: folder / path for path in paths if path in sent}
    _check_paths({path: file.read_text(encoding="utf-8") for path, file in files.items() if _is_prose(path)}, folder)
    _check_paths({CARD: placed}, folder)
    return ModelFiles(files, placed, tuple(path for path in paths if path not in sent and path != CARD))


def find_paths(text: str) -> list[str]:
    """The absolute paths in a text, each once."""
    return list(dict.fromkeys(_PATH.findall(text)))


def _select(folder: Path, paths: Sequence[str]) -> Iterator[str]:
    inside = ("1_Pooling/", *(f"{module.path}/" for module in read_modules(folder) if module.path))
    for path in paths:
        is_module = path.startswith(inside) and path.endswith((".json", ".safetensors"))
        if path != CARD and (_has_known_name(path) or is_module):
            yield path


def _has_known_name(path: str) -> bool:
    return path in _MODEL_FILES or describes_model(path) or any(one.fullmatch(path) for one in (_WEIGHTS, _ONNX))


def _read_card(folder: Path) -> str:
    file = folder / CARD
    if not file.is_file():
        raise ModelError(
            f"{folder}: there is no {CARD}, the card of the model. Write one, with its licence, and what it was made "
            "from.",
            code=ErrorCode.MODEL_MISSING,
        )
    return file.read_text(encoding="utf-8")


def _is_prose(path: str) -> bool:
    return path.endswith((".json", ".jinja")) and path not in _VOCABULARIES and not path.endswith(".index.json")


def _check_paths(texts: Mapping[str, str], folder: Path) -> None:
    for path, text in texts.items():
        if found := find_paths(text):
            raise ModelError(
                f"{folder / path}: it names a path of this machine, which would be published: {', '.join(found)}. "
                "Remove it from the file.",
                code=ErrorCode.PATHS_PUBLISHED,
            )
