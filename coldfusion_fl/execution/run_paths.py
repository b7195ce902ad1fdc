"""Where a new run folder is, and the command that resumes a run."""

import shlex
from pathlib import Path

from coldfusion_fl.runs.ledger import Ledger


def new_run_folder(name: str) -> Path:
    """A folder in `runs` of the working folder that does not exist yet: NAME, NAME-2, NAME-3 and so on."""
    first = Path("runs") / name
    others = (first.with_name(f"{first.name}-{number}") for number in range(2, 10_000))
    return next(folder for folder in (first, *others) if not folder.exists())


def resume_command(ledger: Ledger) -> str:
    """The command line that resumes a run."""
    return shlex.join(["coldfusion", "run", "--resume", str(ledger.folder)])
