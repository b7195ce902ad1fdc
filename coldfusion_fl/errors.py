"""The errors that users of this package see.

::

    ColdFusionError
    ├── SettingsError      a run's settings: a TOML file or Flower's --run-config
    ├── CatalogueError     a catalogue of tasks
    ├── DataError          the rows of a task
    ├── ModelError         a base, or the folder it comes from
    ├── MisfitError        arrays that do not fit the encoder they are meant for
    ├── FusionError        contributions that cannot be fused
    ├── WireError          a contribution that is not packed as it says
    ├── RunFolderError     the folder of a run
    ├── DeploymentError    a federation over a network: its folder, a member, its server
    └── RunError           a run that started and did not end well

Each message says what was wrong, where, and what to do. The command line prints it without a traceback
and exits with `exit_code`: 2 where the user's input was at fault, 1 where a run failed.
"""


class ColdFusionError(Exception):
    """Base of all errors of this package."""

    exit_code = 2


class SettingsError(ColdFusionError):
    """A setting is missing, unknown, misspelt or out of range."""


class CatalogueError(ColdFusionError):
    """A catalogue of tasks cannot be read, or does not know a task."""


class DataError(ColdFusionError):
    """The rows of a task cannot be read or do not make a task."""


class ModelError(ColdFusionError):
    """A model cannot be found or loaded, or has no encoder and head."""


class MismatchError(ColdFusionError):
    """Arrays do not fit an encoder: a name too many or too few, another shape, a non-finite value."""


class FusionError(ColdFusionError):
    """Contributions cannot be fused."""


class CompressionError(ColdFusionError):
    """A contribution is not packed as it says; the message is a clause."""


class RunFolderError(ColdFusionError):
    """A run folder holds another run, or is not a run folder."""


class DeploymentError(ColdFusionError):
    """A federation's folder, a member's settings or keys, or the way to its server is not as it must be."""


class RunError(ColdFusionError):
    """A run started and did not end well."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What another library's error says, for a message of ours: its first line, or its class where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
