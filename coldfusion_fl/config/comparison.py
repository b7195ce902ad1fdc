"""Compare the settings of two runs: a run may resume only with settings that its bases do not depend on."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from coldfusion_fl.config.schema import CAN_CHANGE
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.errors import ErrorCode, RunFolderError


def ensure_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Check that a run resumes with the settings that it had, as far as its bases depend on them.

    Args:
        old: nested tables, as `to_table` makes them.
        new: the same.
        folder: the run's.

    Raises:
        RunFolderError: settings differ; the message has a line for each.
    """
    # A run may be older than a setting. It ran with the current default.
    defaults = to_table(Settings(base=""))
    if found := differences(old, new, set(changeable_keys(Settings)), defaults):
        raise RunFolderError(
            f"{folder}: this run was started with other settings. Restore them, or start a new run in another "
            "folder:\n  " + "\n  ".join(found),
            ErrorCode.RUN_CHANGED,
        )


def changeable_keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The full keys of the settings and whole tables that may differ when a run resumes."""
    for name, field in kind.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        if field.json_schema_extra == CAN_CHANGE:
            yield key
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from changeable_keys(field.annotation, f"{key}.")


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    free: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """A line for each setting that differs between nested tables.

    Args:
        old: one of them.
        new: the other.
        free: full keys of settings and tables that may differ.
        defaults: the values of settings that `old` does not have yet, as nested tables.
    """
    one, other, usual = flatten(old), flatten(new), flatten(defaults or {})
    return [
        f"{key}: saved {_spell(one, key)}, now {_spell(other, key)}"
        for key in sorted(one.keys() | other.keys())
        if not _is_free(key, free) and one.get(key, usual.get(key)) != other.get(key)
    ]


def _spell(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"


def _is_free(key: str, free: Collection[str]) -> bool:
    """Whether a setting, or a table that it stands in, may differ."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in free for length in range(1, len(parts) + 1))
