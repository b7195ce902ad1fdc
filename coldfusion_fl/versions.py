"""Which versions speak with each other: server and contributors must have the same."""

from collections.abc import Mapping
from importlib import metadata

# The server says its versions in each answer, so that a member can compare before it joins.
VERSIONS_HEADER = "x-coldfusion-versions"
_PACKAGES = ("coldfusion-fl", "flwr")


def own_versions() -> dict[str, str]:
    """The versions of what both sides must agree on, by package; those that are not installed are not in it."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an app bundle may bring the package's source along
            continue
    return found


def format_versions(versions: Mapping[str, str] | None = None) -> str:
    """Versions as a text, such as `coldfusion-fl 0.1.0, flwr 1.42.0`; by default our own."""
    found = own_versions() if versions is None else versions
    return ", ".join(f"{package} {number}" for package, number in found.items())
