"""Read settings from TOML files and tables, and check them."""

import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from coldfusion_fl.config.messages import did_you_mean, requirement, settings_error
from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.schema import TRANSLATED_BY_CALLER, SettingsTable
from coldfusion_fl.config.settings import ScoringSettings, Settings
from coldfusion_fl.config.tables import merged
from coldfusion_fl.errors import ColdFusionError, ErrorCode, SettingsError, count

_Table = TypeVar("_Table", bound=SettingsTable)


def read_settings(path: Path) -> Settings:
    """Read the settings of a run from a TOML file.

    Raises:
        SettingsError: the file does not exist, is not UTF-8 or not TOML, or a setting is wrong.
    """
    return parse_settings(read_toml(path, SettingsError), str(path))


def read_scoring_settings(path: Path) -> ScoringSettings:
    """Read the seed and the tables `finetune` and `evaluate` of a TOML file, which may be the settings of a run.

    The other settings of a run are not needed and not checked.

    Raises:
        SettingsError: as `read_settings`.
    """
    table = _with_preset(read_toml(path, SettingsError), str(path))
    others = {field.alias for field in Settings.model_fields.values()}
    others -= {field.alias for field in ScoringSettings.model_fields.values()}
    return parse_table(ScoringSettings, {key: table[key] for key in table if key not in others}, str(path))


def read_toml(path: Path, error: type[ColdFusionError]) -> dict[str, Any]:
    """Parse a TOML file; any problem with it is raised as `error`, and the message names the file."""
    code = ErrorCode.SETTINGS_FILE if error is SettingsError else None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except FileNotFoundError:
        raise error(f"{path}: this file does not exist. Check the path.", code) from None
    except IsADirectoryError:
        raise error(f"{path}: this is a folder; a TOML file is needed.", code) from None
    except OSError as failure:
        raise error(f"{path}: it cannot be read: {failure.strerror}.", code) from None
    except UnicodeDecodeError as bad:
        raise error(f"{path}: byte {bad.start} is not UTF-8. Save the file as UTF-8.", code) from None
    except tomllib.TOMLDecodeError as bad:
        raise error(f"{path}: this is not valid TOML: {bad}.", code) from None


def parse_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Make a run's settings of nested tables with dashed keys, and check that they agree with each other.

    Args:
        table: the nested tables; `preset` may name a recipe whose settings they start from.
        source: the file or other place that the table comes from, for messages.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named), missing, of another type or out of
            range; or two settings contradict each other.
    """
    settings = parse_table(Settings, _with_preset(table, source), source, beside=("preset",))
    _check_tasks(settings, source)
    wanted, available = settings.contributors_per_round, len(settings.tasks.seen)
    if wanted > available:
        raise SettingsError(
            f"{source}: contributors-per-round is {wanted}, but [tasks] seen has only {count(available, 'task')}. "
            f"Set it to {available} or less, or name more seen tasks.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    if settings.min_contributions > wanted:
        raise SettingsError(
            f"{source}: min-contributions is {settings.min_contributions}, more than the {wanted} "
            "contributors-per-round, so no round could ever fuse. Lower it.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    return settings


def _check_tasks(settings: Settings, source: str) -> None:
    """Check that tasks contribute, and that no task is named twice."""
    if not settings.tasks.seen:
        raise SettingsError(
            f"{source}: [tasks] has no 'seen': name the tasks that contribute, for example "
            'seen = "newsgroups, reuters_r8". `coldfusion tasks` lists the tasks.',
            ErrorCode.SETTING_MISSING,
        )
    names = settings.task_names
    if twice := sorted(name for name, number in Counter(names).items() if number > 1):
        raise SettingsError(
            f"{source}: [tasks] names {', '.join(twice)} twice. A task is either seen or unseen, once.",
            ErrorCode.SETTINGS_CONFLICT,
        )


def _with_preset(table: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The settings of the preset that a table names; the table's own settings replace the preset's."""
    if "preset" not in table:
        return table
    if (name := table["preset"]) not in PRESETS:
        raise SettingsError(
            f"{source}: unknown preset {name!r}.{did_you_mean(str(name), PRESETS)}", ErrorCode.PRESET_UNKNOWN
        )
    return merged(PRESETS[name], {key: value for key, value in table.items() if key != "preset"})


def parse_table(
    kind: type[_Table], table: Mapping[str, Any], source: str, where: str = "", beside: Collection[str] = ()
) -> _Table:
    """Make one settings class of one table with dashed keys.

    Args:
        kind: the settings class.
        table: the table; the tables in it become the nested settings classes.
        source: the file or other place that the table comes from, for messages.
        where: what stands before the table's keys in the file, such as `server.`.
        beside: keys that may stand beside these settings and were taken out before, for the suggestion of a misspelt
            key.

    Raises:
        SettingsError: as `parse_settings`.
    """
    try:
        return kind.model_validate(dict(table), by_alias=True, by_name=False, context=TRANSLATED_BY_CALLER)
    except ValidationError as error:
        raise settings_error(error, kind, source, where, beside) from None


def check_value(kind: type[SettingsTable], field: str, value: Any, name: str) -> None:
    """Check one value against the type and limits of one setting; the message calls it `name`.

    Args:
        kind: the settings class.
        field: the setting's name in Python.
        value: the value.
        name: what the value is called where it was given, such as an argument's name.

    Raises:
        SettingsError: the value is of another type or out of range.
    """
    try:
        kind.model_validate({field: value}, context=TRANSLATED_BY_CALLER)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][0] in (
                field,
                kind.model_fields[field].alias,
            ):  # other settings of the table may be required, but are not the subject here
                raise SettingsError(f"{name} {requirement(detail)}.") from None
