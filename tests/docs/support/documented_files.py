"""The files of a run folder that docs/reference/run-folder.md lists."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "run-folder.md"


def documented_files() -> tuple[set[str], set[str]]:
    """The names in the run folder, folders with a slash at the end; and the names in the folder of a round."""
    files, rounds = (
        set(re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE))
        for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:3]
    )
    return files, rounds


def undocumented(folder: Path) -> list[str]:
    """The files in a run folder that the page does not list."""
    files, rounds = documented_files()
    found = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    return sorted(str(file) for file in found if not _is_listed(file, files, rounds))


def _is_listed(file: Path, files: set[str], rounds: set[str]) -> bool:
    if file.parts[0] == "rounds":
        return len(file.parts) == 3 and file.parts[1].isdigit() and file.name in rounds
    return str(file) in files or f"{file.parts[0]}/" in files
