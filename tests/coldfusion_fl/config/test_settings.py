import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.config.comparison import changeable_keys, ensure_same
from coldfusion_fl.config.parsing import parse_settings, read_settings
from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.settings import FinetuneSettings, Settings
from coldfusion_fl.config.tables import flatten, split_names, to_table, unflatten
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError

ROOT = Path(__file__).parents[3]
LEAST = {"base": "some/model", "contributors-per-round": 2, "tasks": {"seen": ["a", "b", "c"]}}


def test_the_defaults_are_the_papers():
    settings = parse_settings(LEAST, "test")
    assert settings.finetune.learning_rate == 5e-5
    assert settings.finetune.weight_decay == 0.01
    assert settings.finetune.epochs == 10
    assert not settings.finetune.keep_head
    assert Settings(base="x").contributors_per_round == 8


def test_names_are_a_list_or_a_text_with_commas():
    text = parse_settings({**LEAST, "tasks": {"seen": "a, b,\n c"}}, "test")
    assert text.tasks.seen == parse_settings(LEAST, "test").tasks.seen == ("a", "b", "c")


@pytest.mark.parametrize(
    ("change", "code", "facts"),
    [
        ({"rouns": 3}, ErrorCode.SETTING_UNKNOWN, ["'rouns'", "'rounds'?"]),
        (
            {"finetune": {"learning_rate": 1e-3}},
            ErrorCode.SETTING_UNKNOWN,
            ["'finetune.learning_rate'", "'learning-rate'?"],
        ),
        ({"prest": "paper"}, ErrorCode.SETTING_UNKNOWN, ["'preset'?"]),
        ({"rounds": 0}, ErrorCode.SETTING_INVALID, ["'rounds'", "at least 1", "is 0"]),
        ({"rounds": "3"}, ErrorCode.SETTING_INVALID, ["'rounds'", "whole number", "is '3'"]),
        ({"rounds": 3.0}, ErrorCode.SETTING_INVALID, ["'rounds'", "whole number", "is 3.0"]),
        ({"rounds": True}, ErrorCode.SETTING_INVALID, ["'rounds'", "whole number", "is True"]),
        ({"resume": 1}, ErrorCode.SETTING_INVALID, ["'resume'", "true or false", "is 1"]),
        ({"round-timeout": True}, ErrorCode.SETTING_INVALID, ["'round-timeout'", "a number", "is True"]),
        ({"round-timeout": float("inf")}, ErrorCode.SETTING_INVALID, ["'round-timeout'", "finite", "is inf"]),
        ({"seed": 2**31}, ErrorCode.SETTING_INVALID, ["'seed'", "below 2147483648"]),
        ({"server": {"ema": 1}}, ErrorCode.SETTING_INVALID, ["'server.ema'", "below 1", "is 1"]),
        ({"server": {"blend": 1.5}}, ErrorCode.SETTING_INVALID, ["'server.blend'", "at most 1", "is 1.5"]),
        ({"finetune": {"learning-rate": 0}}, ErrorCode.SETTING_INVALID, ["'finetune.learning-rate'", "above 0"]),
        ({"finetune": {"head": "max"}}, ErrorCode.SETTING_INVALID, ["one of auto, class-token, mean", "is 'max'"]),
        ({"finetune": 3}, ErrorCode.SETTING_INVALID, ["'finetune' is a table", "[finetune]"]),
        ({"tasks": {"seen": 3}}, ErrorCode.SETTING_INVALID, ["'tasks.seen'", "list of names", "is 3"]),
        ({"tasks": {"seen": ["a", 3]}}, ErrorCode.SETTING_INVALID, ["'tasks.seen'", "list of names"]),
        ({"tasks": {}}, ErrorCode.SETTING_MISSING, ["[tasks]", "'seen'"]),
        ({"contributors-per-round": 4}, ErrorCode.SETTINGS_CONFLICT, ["is 4", "seen has only 3 tasks"]),
        ({"min-contributions": 3}, ErrorCode.SETTINGS_CONFLICT, ["min-contributions is 3", "2 contributors-per-round"]),
        ({"tasks": {"seen": "a, b", "unseen": "b"}}, ErrorCode.SETTINGS_CONFLICT, ["names b twice"]),
    ],
)
def test_a_mistake_is_named(change, code, facts):
    with pytest.raises(SettingsError) as error:
        parse_settings({**LEAST, **change}, "run.toml")
    assert error.value.code == code
    for fact in ("run.toml", *facts):
        assert fact in str(error.value)


def test_a_missing_setting_is_named():
    with pytest.raises(SettingsError, match="run.toml: the setting 'base' is missing") as error:
        parse_settings({"tasks": {"seen": "a"}}, "run.toml")
    assert error.value.code == ErrorCode.SETTING_MISSING


def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it():
    with pytest.raises(SettingsError, match="unknown setting 'bas'. Did you mean 'base'"):
        parse_settings({"bas": "x", "tasks": {"seen": "a"}}, "run.toml")


def test_whole_numbers_are_numbers():
    assert parse_settings({**LEAST, "round-timeout": 5}, "test").round_timeout == 5.0


def test_settings_made_in_python_are_checked_and_frozen():
    with pytest.raises(SettingsError, match="learning_rate"):
        FinetuneSettings(learning_rate=0)
    settings = FinetuneSettings(learning_rate=1e-3)
    with pytest.raises(ValueError, match="frozen"):
        settings.learning_rate = 1.0


def test_a_comma_in_a_name_is_escaped():
    names = ["a, b", "c"]
    assert split_names(flatten({"names": names})["names"]) == tuple(names)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"rounds = ", "not valid TOML"), (b"base = '\xff'", "byte 8 is not UTF-8"), (None, "does not exist")],
)
def test_a_file_that_cannot_be_read(tmp_path, content, words):
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=words) as error:
        read_settings(file)
    assert error.value.code == ErrorCode.SETTINGS_FILE
    assert str(file) in str(error.value)


@given(
    rounds=st.integers(1, 1000),
    rate=st.floats(1e-9, 1.0),
    seen=st.lists(st.text("abcdef_", min_size=1), min_size=8, max_size=12, unique=True),
    keep=st.booleans(),
)
def test_settings_survive_flowers_flat_form(rounds, rate, seen, keep):
    table = {
        "base": "m",
        "rounds": rounds,
        "tasks": {"seen": seen},
        "finetune": {"learning-rate": rate, "keep-head": keep},
    }
    settings = parse_settings(table, "test")
    flat = flatten(to_table(settings))
    assert all(isinstance(value, bool | int | float | str) for value in flat.values())
    assert parse_settings(unflatten(flat), "flat") == settings


def test_flowers_run_config_is_the_demo():
    """`flwr run .` and `coldfusion run experiments/demo.toml` are the same run, and every setting is declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    demo = read_settings(ROOT / "experiments" / "demo.toml")
    assert parse_settings(declared, "pyproject") == demo
    assert flatten(declared).keys() == flatten(to_table(demo)).keys()


def test_a_preset_is_what_the_file_does_not_say(toy_run):
    file = toy_run(**{"preset": '"paper"', "server.server-optimizer": '"nesterov"'})
    settings = read_settings(file)
    assert settings.server.server_optimizer == "nesterov"
    assert (settings.server.fusion, settings.finetune.keep_head) == ("mean", False)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_of_settings_that_there_are(toy_run, name):
    reported = flatten(to_table(read_settings(toy_run(preset=f'"{name}"'))))
    assert {key: reported[key] for key in flatten(PRESETS[name])} == flatten(PRESETS[name])


def test_an_unknown_preset_is_named(toy_run):
    with pytest.raises(SettingsError, match="unknown preset 'papr'. Did you mean 'paper'") as error:
        read_settings(toy_run(preset='"papr"'))
    assert error.value.code == ErrorCode.PRESET_UNKNOWN


def test_a_setting_that_did_not_exist_yet_was_its_default(tmp_path):
    now = to_table(Settings(base="b"))
    then = {key: value for key, value in now.items() if key != "server"}
    then["server"] = {key: value for key, value in now["server"].items() if key != "blend"}
    ensure_same(then, now, tmp_path)
    now["server"]["blend"] = 0.5
    with pytest.raises(RunFolderError, match="server.blend: saved not set, now 0.5") as error:
        ensure_same(then, now, tmp_path)
    assert error.value.code == ErrorCode.RUN_CHANGED


def test_what_may_change_when_a_run_resumes(tmp_path):
    assert set(changeable_keys(Settings)) == {
        "out", "resume", "rounds", "round-timeout", "node-timeout", "min-contributions", "simulation", "tracking",
        "server.keep-last", "server.screening", "server.exclude", "server.max-rejections",
    }  # fmt: skip
    then, now = to_table(Settings(base="b")), to_table(Settings(base="b"))
    now["rounds"] = 99
    now["simulation"]["cpus"] = 7
    now["server"]["exclude"] = ["a"]
    ensure_same(then, now, tmp_path)
