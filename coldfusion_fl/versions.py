"""The versions that must be equal on the server and on all contributors."""

from collections.abc import Mapping
from importlib import metadata

# The server sends its versions with each response, so that a member can compare them before it joins.
VERSIONS_HEADER = "x-coldfusion-versions"
_PACKAGES = ("coldfusion-fl", "flwr")


def own_versions() -> dict[str, str]:
    """The installed versions by package; a package that is not installed is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an app bundle may contain the package's source
            continue
    return found


def format_versions(versions: Mapping[str, str] | None = None) -> str:
    """Versions as text, such as `coldfusion-fl 0.1.0, flwr 1.42.0`. Default: the installed ones."""
    found = own_versions() if versions is None else versions
    return ", ".join(f"{package} {number}" for package, number in found.items())
