import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.settings import (
    Settings,
    ensure_same,
    flatten,
    parse_settings,
    read_settings,
    to_table,
    unflatten,
)
from coldfusion_fl.errors import RunFolderError, SettingsError

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
    ("change", "words"),
    [
        ({"rouns": 3}, r"unknown setting 'rouns'\. Did you mean 'rounds'\?"),
        (
            {"finetune": {"learning_rate": 1e-3}},
            r"unknown setting 'finetune\.learning_rate'.*'learning-rate'",
        ),
        ({"rounds": 0}, "'rounds' must be at least 1, but is 0"),
        ({"rounds": "3"}, "'rounds' must be a whole number, but is '3'"),
        ({"rounds": True}, "'rounds' must be a whole number"),
        ({"finetune": {"learning-rate": 0}}, "must be above 0"),
        ({"finetune": {"head": "max"}}, "must be one of auto, class-token, mean"),
        ({"finetune": 3}, r"'finetune' is a table"),
        ({"contributors-per-round": 4}, "is 4, but only 3 tasks are seen"),
        ({"min-contributions": 3}, "more than the 2 contributors-per-round"),
        ({"tasks": {"seen": "a, b", "unseen": "b"}}, "names b twice"),
        ({"tasks": {}}, r"\[tasks\] has no 'seen'"),
        ({"tasks": {"seen": 3}}, "must be a list of names"),
    ],
)
def test_a_mistake_is_named(change, words):
    with pytest.raises(SettingsError, match=words):
        parse_settings({**LEAST, **change}, "test")


def test_a_missing_setting_is_named():
    with pytest.raises(SettingsError, match="the setting 'base' is missing"):
        parse_settings({"tasks": {"seen": "a"}}, "test")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"rounds = ", "not valid TOML"), (b"base = '\xff'", "byte 8 is not UTF-8"), (None, "no such file")],
)
def test_a_file_that_cannot_be_read(tmp_path, content, words):
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        read_settings(file)


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
    file = toy_run(preset='"paper"', server__server_optimizer='"nesterov"')
    settings = read_settings(file)
    assert settings.server.server_optimizer == "nesterov"
    assert (settings.server.fusion, settings.finetune.keep_head) == ("mean", False)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_of_settings_that_there_are(toy_run, name):
    told = flatten(to_table(read_settings(toy_run(preset=f'"{name}"'))))
    assert {key: told[key] for key in flatten(PRESETS[name])} == flatten(PRESETS[name])


def test_an_unknown_preset_is_named(toy_run):
    with pytest.raises(SettingsError, match="there is no preset 'papr'. Did you mean 'paper'"):
        read_settings(toy_run(preset='"papr"'))


def test_a_setting_that_did_not_exist_yet_was_its_default(tmp_path):
    now = to_table(Settings(base="b"))
    then = {key: value for key, value in now.items() if key != "server"}
    then["server"] = {key: value for key, value in now["server"].items() if key != "blend"}
    ensure_same(then, now, tmp_path)
    now["server"]["blend"] = 0.5
    with pytest.raises(RunFolderError, match="server.blend: 'nothing' there, 0.5 here"):
        ensure_same(then, now, tmp_path)
