"""The files that the commands on models write: checked before the work, and written whole or not at all."""

import os
from pathlib import Path

from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.cli.app import console
from coldfusion_fl.errors import ErrorCode, SettingsError


def check_output_file(option: str, file: Path | None) -> None:
    """Check that a file can be written, before a command works for a long time.

    Args:
        option: the name of the option, such as `--json`.
        file: its value; None: it was not given.

    Raises:
        SettingsError: the folder does not exist or cannot be written, or the file is a folder.
    """
    if file is None:
        return
    folder = file.resolve().parent
    if not folder.is_dir():
        raise SettingsError(f"{option} {file}: the folder {folder} does not exist.")
    if file.is_dir():
        raise SettingsError(f"{option} {file}: this is a folder. Name a file in it.")
    if not os.access(folder if _is_replaceable(file) else file, os.W_OK):
        raise SettingsError(f"{option} {file}: you may not write it. Choose another folder, or change its permissions.")


def check_new_output(out: Path, kind: str) -> None:
    """Check that `--out` names something that does not exist yet, in a folder that does.

    Args:
        out: the value of the option.
        kind: what the command makes there, `file` or `folder`.

    Raises:
        SettingsError: the path exists already, or its folder does not.
    """
    if out.exists():
        raise SettingsError(f"--out {out}: this path exists already. Name a new {kind}.", ErrorCode.SETTINGS_CONFLICT)
    if not out.resolve().parent.is_dir():
        raise SettingsError(f"--out {out}: the folder {out.resolve().parent} does not exist.")


def write_output_file(file: Path, text: str) -> None:
    """Write a file, and say so.

    Raises:
        RunFolderError: the disk is full or cannot be written.
    """
    target = file.resolve()
    with disk_errors(target.parent, left="The scores are printed above."):
        if _is_replaceable(file):
            with atomic_write(target) as path:
                path.write_text(text, encoding="utf-8", newline="")
        else:
            file.write_text(text, encoding="utf-8", newline="")
    console.print(f"Written to {file}", markup=False, soft_wrap=True)


def _is_replaceable(file: Path) -> bool:
    """Whether a file is none yet or a regular one; a device or a pipe, such as /dev/stdout, must stay."""
    return file.is_file() or not file.exists()
