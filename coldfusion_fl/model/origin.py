"""The base that a model was made from, as a card may name it: in public, and without the paths of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from coldfusion_fl.data.paths import PACKAGE, expand_user
from coldfusion_fl.hub import split_revision
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.card import as_code
from coldfusion_fl.model.export import read_licence
from coldfusion_fl.model.sentence_modules import read_modules


@dataclass(frozen=True)
class Origin:
    """A base, or another model that a model was made from.

    Attributes:
        reference: the model as the user wrote it.
        commit: its commit, if it came from the Hub; empty: a folder, or not known.
        licence: as `export.read_licence` returns it.
        has_sentence_pooling: whether sentence-transformers loads it with a pooling of its own.
    """

    reference: str
    commit: str = ""
    licence: Mapping[str, Any] = field(default_factory=dict)
    has_sentence_pooling: bool = False

    @property
    def hub_id(self) -> str:
        """Its id on the Hub; empty: it is not known to be there."""
        return hub_id(self.reference) if self.commit else ""

    @property
    def name(self) -> str:
        """Its name in public; of a local folder, the last part of its path."""
        return public_name(self.reference)

    def to_markdown(self) -> str:
        """Its public name, and where it is from."""
        if self.hub_id:
            return f"{as_code(self.hub_id)} of the Hub, commit {as_code(self.commit)}"
        is_local = self.name != self.reference
        return as_code(self.name) + (", a local folder" if is_local else "")


def read_origin(base: Base) -> Origin:
    """The origin of a model that is made from a base."""
    return Origin(base.reference, base.commit, read_licence(base.folder), has_sentence_pooling(base.folder))


def has_sentence_pooling(folder: Path) -> bool:
    """Whether sentence-transformers loads a model folder with a pooling of its own.

    Raises:
        ModelError: `modules.json` cannot be read.
    """
    return any(module.kind == "Pooling" for module in read_modules(folder))


def hub_id(reference: str) -> str:
    """The id of a reference that has the form of an id with its organisation; empty: it has another form."""
    name, _ = split_revision(reference)
    try:
        validate_repo_id(name)
    except HFValidationError:
        return ""
    return name if "/" in name else ""


def public_name(reference: str) -> str:
    """A reference without the path of this machine: of a folder the last part, anything else as it is."""
    if reference.startswith(PACKAGE):
        return reference
    path = expand_user(reference)
    name, _ = split_revision(reference)
    is_path = path.is_absolute() or reference.startswith((".", "~")) or name.count("/") > 1 or path.exists()
    return (path.name or path.resolve().name) if is_path else reference


def hide_paths(text: str, references: list[str]) -> str:
    """A text in which each reference has its public name."""
    for reference in sorted((one for one in references if "/" in one), key=len, reverse=True):
        text = text.replace(reference, public_name(reference))
    return text
