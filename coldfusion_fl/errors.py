"""The exceptions of this package.

::

    ColdFusionError
    ├── SettingsError      a run's settings: a TOML file, Flower's run-config or an argument
    ├── CatalogueError     a catalogue of tasks
    ├── DataError          the rows of a task
    ├── ModelError         a base model or its folder
    ├── MismatchError      arrays that do not fit the encoder that they are meant for
    ├── FusionError        contributions that cannot be fused
    ├── CompressionError   a contribution that cannot be decoded
    ├── RunFolderError     the folder of a run
    ├── DeploymentError    a federation over a network: its folder, a member or the server
    ├── HubError           an upload to the Hugging Face Hub that failed
    └── RunError           a run that started and then failed

Each message says what is wrong, where, and what to do. Each error has a `code`, which does not change with the wording:
see `error_codes`.
The command line prints the message without a traceback, and exits with `exit_code`: 2 for wrong input, 1 for a run that
failed.
"""

from collections.abc import Mapping
from typing import ClassVar

from coldfusion_fl.error_codes import ErrorCode


class ColdFusionError(Exception):
    """Base of all exceptions of this package.

    Args:
        message: what is wrong, where, and what to do.
        code: the reason; None: the usual code of the class.
    """

    exit_code: ClassVar[int] = 2
    usual_code: ClassVar[ErrorCode] = ErrorCode.RUN_FAILED

    def __init__(self, message: str = "", code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.code = code or self.usual_code


class SettingsError(ColdFusionError):
    """A setting is missing, unknown, misspelt or out of range."""

    usual_code = ErrorCode.SETTING_INVALID


class CatalogueError(ColdFusionError):
    """A catalogue of tasks cannot be read, or has no such task."""

    usual_code = ErrorCode.CATALOGUE_INVALID


class DataError(ColdFusionError):
    """The rows of a task cannot be read, or are not a valid task."""

    usual_code = ErrorCode.DATA_UNREADABLE


class ModelError(ColdFusionError):
    """A model cannot be found or loaded, or cannot be split into an encoder and a head."""

    usual_code = ErrorCode.MODEL_INVALID


class MismatchError(ColdFusionError):
    """Arrays do not fit an encoder: an extra or missing name, another shape or dtype, or a value that is not finite."""

    usual_code = ErrorCode.ARRAYS_MISMATCH


class FusionError(ColdFusionError):
    """Contributions cannot be fused."""

    usual_code = ErrorCode.FUSION_FAILED


class CompressionError(ColdFusionError):
    """A contribution cannot be decoded. The message is a clause, which the server completes with the sender's name."""

    usual_code = ErrorCode.COMPRESSION_INVALID


class RunFolderError(ColdFusionError):
    """A run folder belongs to another run, is damaged, or is not a run folder."""

    usual_code = ErrorCode.RUN_FOLDER_INVALID


class DeploymentError(ColdFusionError):
    """The folder of a federation, the settings or key of a member, or the connection to the server is not valid."""

    usual_code = ErrorCode.FEDERATION_INVALID


class HubError(ColdFusionError):
    """An upload to the Hugging Face Hub began and failed."""

    exit_code = 1
    usual_code = ErrorCode.HUB_UPLOAD


class RunError(ColdFusionError):
    """A run started and failed."""

    exit_code = 1
    usual_code = ErrorCode.RUN_FAILED


def to_message(error: ColdFusionError) -> dict[str, str]:
    """An error as strings by key, for another process; `from_message` reverses it."""
    # The other process knows the classes of this module alone, not the subclasses of an engine.
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == __name__)
    return {"class": name, "message": str(error), "code": error.code}


def from_message(message: Mapping[str, str]) -> ColdFusionError:
    """The error that `to_message` was given."""
    error: ColdFusionError = globals()[message["class"]](message["message"], code=ErrorCode(message["code"]))
    return error


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, or its class name if there is no message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun in the right form: `1 contributor`, `2 contributors`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
