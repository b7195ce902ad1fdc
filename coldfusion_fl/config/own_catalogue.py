"""The catalogue in a run folder, in the settings of `run.json`: its path is relative, as the folder may be moved."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# The rows of tasks in memory are the one thing that is there before the run: its checks read them.
TASKS = "tasks"
_CATALOGUE = f"{TASKS}/catalogue.toml"


def to_stored(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings as `run.json` has them: the path of the catalogue in the run folder is relative.

    Args:
        settings: nested tables with absolute paths.
        folder: the run folder.
    """
    own = folder.resolve() / _CATALOGUE
    return _with_catalogues(settings, lambda one: _CATALOGUE if Path(one) == own else one)


def from_stored(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings of `run.json` with the absolute path of the catalogue, where the run folder is now."""
    own = folder.resolve() / _CATALOGUE
    return _with_catalogues(settings, lambda one: str(own) if one == _CATALOGUE and own.is_file() else one)


def _with_catalogues(settings: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Settings with other catalogues; those of a program that names no list of them stay as they are."""
    tasks = settings.get("tasks")
    if not isinstance(tasks, Mapping) or not isinstance(tasks.get("catalogue"), list):
        return dict(settings)
    catalogues = [change(one) if isinstance(one, str) else one for one in tasks["catalogue"]]
    return {**settings, "tasks": {**tasks, "catalogue": catalogues}}
