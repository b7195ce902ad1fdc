"""Settings as TOML with their descriptions as comments."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.config.commented_toml import comment, commented_lines, toml_key, toml_value
from coldfusion_fl.config.settings import FinetuneSettings, Settings

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-(2**60), 2**60), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda values: st.one_of(st.lists(values), st.dictionaries(TEXTS, values)),
)


@given(TEXTS, VALUES)
def test_toml_reads_what_is_written(key, value):
    assert tomllib.loads(f"{toml_key(key)} = {toml_value(value)}\n") == {key: value}


@given(TEXTS)
def test_a_comment_is_no_content(text):
    printable = "".join(character for character in text if character.isprintable() or character == "\n")
    assert tomllib.loads("\n".join(comment(printable))) == {}


def test_each_key_has_its_description_once():
    described: set[str] = set()
    table = {"epochs": 3, "max-length": 64}
    lines = list(commented_lines(FinetuneSettings, table, {"epochs": "few rows"}, described))
    assert lines[0] == f"# {FinetuneSettings.model_fields['epochs'].description}"
    assert lines[1] == "epochs = 3  # few rows"
    assert tomllib.loads("\n".join(lines)) == table
    assert list(commented_lines(FinetuneSettings, table, {}, described)) == ["epochs = 3", "max-length = 64"]


def test_the_preset_has_a_description_too():
    lines = list(commented_lines(Settings, {"preset": "paper", "finetune": {"epochs": 1}}, {}, set()))
    assert lines == ["# Named recipe that the file starts from.", 'preset = "paper"']


def test_an_unknown_key_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        list(commented_lines(Settings, {"no-such-key": 1}, {}, set()))
