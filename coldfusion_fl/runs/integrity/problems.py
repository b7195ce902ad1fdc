"""What is wrong with a run folder and does not keep a run from being read or resumed."""

from coldfusion_fl.runs.integrity.file_list import CHECKSUMS, listed_rounds
from coldfusion_fl.runs.integrity.round_folders import scan_rounds
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.progress import PROGRESS, ProgressLog
from coldfusion_fl.sanitize import sanitize


def find_problems(ledger: Ledger) -> list[str]:
    """Sentences on lines of `progress.jsonl` that are lost, and on what the folder `rounds` lacks or should not have.

    Raises:
        RunFolderError: the folder, or its events, cannot be read.
    """
    problems: list[str] = []
    progress = ProgressLog(ledger.folder / PROGRESS)
    progress.read(0, problems.append)
    if progress.has_unfinished_line() and not ledger.is_locked:
        problems.append(
            f"{ledger.folder / PROGRESS}: its last line is not complete, because a process was killed or the "
            "disk was full. It is ignored, and removed when the run goes on."
        )
    rounds = scan_rounds(ledger.folder / "rounds")
    problems += [
        f"{ledger.round_folder(number)}: this round is missing, but {CHECKSUMS} lists it. If the run goes on, it makes "
        "the round again."
        for number in listed_rounds(ledger.file_list.read())
        if number not in rounds.numbers
    ]
    problems += [f"{path}: this is not the folder of a round, and is ignored. Move it away." for path in rounds.strays]
    return [sanitize(problem) for problem in problems]
