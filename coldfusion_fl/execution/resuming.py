"""What a run needs so that it can be resumed."""

from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.runs.ledger import Ledger


def check_has_tasks(ledger: Ledger) -> None:
    """Check that contributors train in a run: its rounds are not those of `coldfusion fuse --run`.

    Raises:
        SettingsError: the run has no tasks.
        RunFolderError: the folder holds no run.
    """
    if "rounds" not in ledger.settings and "server" in ledger.settings:
        raise SettingsError(
            f"{ledger.folder}: the rounds of this run are added with `coldfusion fuse --run`, and it has no tasks to "
            f'train on. To have contributors train from its model, start a new run with: base = "{ledger.folder}"',
            code=ErrorCode.SETTINGS_CONFLICT,
        )
