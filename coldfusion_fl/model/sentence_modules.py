"""The file `modules.json` of sentence-transformers, which lists the modules of a model and their folders."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.errors import ModelError

MODULES_FILE = "modules.json"


@dataclass(frozen=True)
class SentenceModule:
    """A module of a sentence-embedding model.

    Attributes:
        kind: the name of its class, such as `Pooling`.
        path: its folder or file, relative to the model folder; empty: the model folder itself.
    """

    kind: str
    path: str


def read_modules(folder: Path) -> list[SentenceModule]:
    """The modules of a model folder; empty if it has no `modules.json`.

    Raises:
        ModelError: the file cannot be read, or is not a list of modules.
    """
    file = folder / MODULES_FILE
    if not file.is_file():
        return []
    modules = read_json(file)
    try:
        return [SentenceModule(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in modules]
    except (TypeError, KeyError):
        raise ModelError(
            f"{file}: it is not a list of modules with 'type' and 'path'. Repair the file, or delete it."
        ) from None


def read_json(file: Path) -> Any:
    """The content of a JSON file of a model folder.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise ModelError(f"{file}: it cannot be read: {failure}. Repair the file, or delete it.") from None
