"""A setting is one field. All that depends on it follows from the field: a toy setting shows up everywhere."""

import inspect
import json
import tomllib

import pytest
from pydantic import Field
from typer.testing import CliRunner

from coldfusion_fl.cli.main import app
from coldfusion_fl.config import parsing
from coldfusion_fl.config.comparison import changeable_keys
from coldfusion_fl.config.parsing import parse_settings, read_settings
from coldfusion_fl.config.schema import CAN_CHANGE
from coldfusion_fl.config.settings import ServerSettings, Settings
from coldfusion_fl.config.tables import flatten, to_table, unflatten
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.arguments import setting_of

SENTENCE = "A toy setting of this test."


class ToyServer(ServerSettings):
    toy_size: int = Field(3, ge=2, description=SENTENCE, json_schema_extra=CAN_CHANGE)


class ToySettings(Settings):
    server: ToyServer = Field(default_factory=ToyServer, description="The server.")


@pytest.fixture
def toy_settings(monkeypatch):
    monkeypatch.setattr(parsing, "Settings", ToySettings)
    monkeypatch.setattr("coldfusion_fl.cli.settings.Settings", ToySettings)


def command(*arguments):
    result = CliRunner().invoke(app, ["settings", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("toy_settings")
def test_a_new_setting_shows_up_everywhere(toy_run):
    file = toy_run(**{"server.toy-size": "5"})
    settings = read_settings(file)
    assert settings.server.toy_size == 5
    flat = flatten(to_table(settings))
    assert flat["server.toy-size"] == 5
    assert parse_settings(unflatten(flat), "the run-config") == settings

    listed = command()
    assert "toy-size: whole number, at least 2; default 3" in listed
    assert SENTENCE in listed
    schema = json.loads(command("--json-schema"))
    toy = schema["$defs"]["ToyServer"]["properties"]["toy-size"]
    assert toy == {
        "default": 3, "minimum": 2, "type": "integer", "title": "Toy-Size", "description": SENTENCE, **CAN_CHANGE,
    }  # fmt: skip
    run_config = tomllib.loads(command("--run-config", file))
    assert run_config["server"]["toy-size"] == 5
    assert "server.toy-size" in set(changeable_keys(ToySettings))


@pytest.mark.usefixtures("toy_settings")
@pytest.mark.parametrize(
    ("setting", "code", "facts"),
    [
        ({"server.toy-size": "1"}, ErrorCode.SETTING_INVALID, ["'server.toy-size'", "at least 2", "is 1"]),
        ({"server.toy-siz": "1"}, ErrorCode.SETTING_UNKNOWN, ["'server.toy-siz'", "Did you mean 'toy-size'?"]),
    ],
)
def test_a_new_setting_has_its_messages(toy_run, setting, code, facts):
    file = toy_run(**setting)
    with pytest.raises(SettingsError) as error:
        read_settings(file)
    assert error.value.code == code
    for fact in (str(file), *facts):
        assert fact in str(error.value)


def every_setting(table=Settings, prefix=""):
    for name, field in table.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, table.__mro__[1])
        if nested:
            yield from every_setting(field.annotation, f"{prefix}{field.alias}.")
        else:
            yield f"{prefix}{field.alias}", name, field


def test_every_setting_has_one_sentence_and_is_listed():
    listed = command()
    for key, _, field in every_setting():
        assert field.description.endswith("."), key
        assert f"  {field.alias}: " in listed


def test_flowers_table_can_be_printed_again(request):
    root = request.config.rootpath
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    printed = tomllib.loads(command("--run-config", root / "experiments" / "demo.toml"))
    assert printed == declared


def test_two_outputs_at_once_are_rejected():
    result = CliRunner().invoke(app, ["settings", "--json-schema", "--run-config", "x.toml"])
    assert isinstance(result.exception, SettingsError)


def test_the_strategy_has_the_defaults_of_the_settings():
    arguments = inspect.signature(ColDFusion).parameters
    shared = {name: setting for name in arguments if (setting := setting_of(name))}
    assert shared.keys() == {
        "contributors_per_round", "min_contributions", "min_available_nodes", "node_timeout", "seed", "evaluate_every",
        "fusion", "server_optimizer", "ema", "blend", "screening", "exclude", "compression", "staleness_discount",
        "max_rejections", "rollback", "keep_last",
    }  # fmt: skip
    for name, (table, field) in shared.items():
        expected = table.model_fields[field].default
        # 0 is a valid tolerance for a score of one's own, so None is what switches `rollback` off. A project with one
        # node needs one contribution in a round.
        if name in ("rollback", "min_contributions"):
            expected = None
        assert arguments[name].default == expected, name
