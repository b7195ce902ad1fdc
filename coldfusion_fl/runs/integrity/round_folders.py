"""What the folder `rounds` of a run folder holds: the folders of the rounds, and what does not belong there."""

from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.atomic_files import is_partial
from coldfusion_fl.errors import ErrorCode, RunFolderError


@dataclass(frozen=True)
class RoundFolders:
    """The entries of the folder `rounds`.

    Attributes:
        numbers: the numbers of the rounds, in order.
        strays: what is neither a round nor the temporary file of a writer, sorted.
    """

    numbers: list[int]
    strays: list[Path]


def scan_rounds(folder: Path) -> RoundFolders:
    """Read the names in the folder `rounds`; a folder that does not exist has none.

    A round is a folder with a number of three or more digits that is not empty. A link does not count: it may lead
    outside of the run folder. The files of the rounds are not read.

    Raises:
        RunFolderError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return RoundFolders([], [])
    except OSError as failure:
        raise RunFolderError(
            f"{folder}: it cannot be read: {failure.strerror}. Restore the folder, or make it readable.",
            ErrorCode.RUN_FOLDER_DAMAGED,
        ) from None
    rounds = [path for path in entries if _is_round(path)]
    strays = [path for path in entries if path not in rounds and not is_partial(path)]
    return RoundFolders(sorted(int(path.name) for path in rounds), strays)


def _is_round(path: Path) -> bool:
    name = path.name
    if not (name.isascii() and name.isdigit() and name == f"{int(name):03d}") or path.is_symlink():
        return False
    try:
        return any(path.iterdir())
    except PermissionError:
        return True  # reading its record raises the error that names it
    except OSError:  # a file
        return False
