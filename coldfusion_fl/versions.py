"""The versions of this software and its dependencies: those that are recorded, and those that must be equal."""

import contextlib
import functools
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

# Server and contributors must have the same versions of these.
_MUST_MATCH = ("coldfusion-fl", "flwr")
_RECORDED = (*_MUST_MATCH, "ray", "torch", "transformers", "numpy", "scikit-learn")
# The server sends its versions with each response, so that a member can compare them before it joins.
VERSIONS_HEADER = "x-coldfusion-versions"


def own_versions() -> dict[str, str]:
    """The versions that must be equal on both sides, by distribution."""
    return {name: version for name, version in installed_versions().items() if name in _MUST_MATCH}


@functools.cache
def installed_versions() -> dict[str, str]:
    """The versions that a run records, by distribution; one that is not installed is left out."""
    return {"python": platform.python_version(), **versions_of(_RECORDED)}


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of some distributions; one that is not installed is left out."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):  # an app bundle may contain this package's source
            found[name] = metadata.version(name)
    return found


def format_versions(versions: Mapping[str, str] | None = None) -> str:
    """Versions as text, such as `coldfusion-fl 0.1.0, flwr 1.42.0`. Default: the installed ones."""
    found = own_versions() if versions is None else versions
    return ", ".join(f"{package} {number}" for package, number in found.items())
