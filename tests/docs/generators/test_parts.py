"""The generated parts of the reference: complete, and true."""

import re
import tomllib

import pytest
from error_parts import grouped_codes
from event_parts import examples, kinds, name_of
from expand import MARKER, PARTS, expand
from links import ROOT
from setting_entries import anchor, example, nested
from settings_parts import ARGUMENTS

from coldfusion_fl.aggregation.rules import RULES
from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import merged, unflatten
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.error_codes import ErrorCode
from coldfusion_fl.experiments.plan import Comparison, Scoring
from coldfusion_fl.experiments.reading import ExperimentKeys, RecipeKeys
from coldfusion_fl.fusion import OPERATORS
from coldfusion_fl.strategies import ColDFusion

COMPONENTS = {**OPERATORS, **SERVER_OPTIMIZERS, **RULES}
RUN = {"base": "any", "contributors-per-round": 2, "tasks": {"seen": [f"task-{number}" for number in range(16)]}}


def page(name):
    return expand((ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8"))


def keys(table=Settings, prefix=""):
    for name, field in table.model_fields.items():
        if kind := nested(field):
            yield from keys(kind, f"{prefix}{field.alias or name}.")
        else:
            yield f"{prefix}{field.alias or name}"


def entry(key):
    """The rows of a setting's entry, by label."""
    text = page("settings").split(f"{{ #{anchor(key)} }}\n")[1].split("\n#")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE))


def test_each_part_is_on_one_page():
    named = [name for file in (ROOT / "docs").rglob("*.md") for name in MARKER.findall(file.read_text("utf-8"))]
    assert sorted(named) == sorted(PARTS)


@pytest.mark.parametrize("key", list(keys()))
def test_each_setting_can_be_written_as_its_entry_says(key):
    rows = entry(key)
    found = re.fullmatch(r"`(.+?)`(?: below `\[(.+)\]`)?", rows["TOML"])
    in_file = tomllib.loads((f"[{found[2]}]\n" if found[2] else "") + found[1])
    in_run_config = unflatten(dict([read_run_config(rows["run-config"].strip("`"))]))
    settings = [parse_settings(merged(RUN, table), "the page") for table in (in_file, in_run_config)]
    assert settings[0] == settings[1]
    assert key in ARGUMENTS or "`ColDFusion`" not in rows


def read_run_config(text):
    """Flower splits the text of --run-config into keys and values of TOML."""
    key, _, value = text.partition("=")
    return key, tomllib.loads(f"value = {value}")["value"]


@pytest.mark.parametrize("key", sorted(ARGUMENTS))
def test_each_argument_can_be_written_as_its_entry_says(key):
    argument = entry(key)["`ColDFusion`"].strip("`")
    needs = {"blend": "ema=0.7, ", "rollback": "score_fn=len, "}.get(ARGUMENTS[key], "")
    assert eval(f"ColDFusion({needs}{argument})", {"ColDFusion": ColDFusion})


def test_what_may_change_at_a_resume_is_marked():
    assert entry("rounds")["at a resume"] == entry("simulation.cpus")["at a resume"] == "may change"
    assert entry("seed")["at a resume"] == entry("server.blend")["at a resume"] == "must stay"


@pytest.mark.parametrize("table", [TaskSpec, Member, Scoring, Comparison, ExperimentKeys, RecipeKeys])
def test_each_key_of_a_file_has_a_sentence_and_a_valid_example(table):
    required = {name: example(field) for name, field in table.model_fields.items() if field.is_required()}
    for name, field in table.model_fields.items():
        assert field.description.endswith("."), name
        if not nested(field):
            table(**required | {name: example(field)})


@pytest.mark.parametrize("name", list(COMPONENTS))
def test_each_component_has_a_concept_and_says_when_to_use_it(name):
    text = page("operators").split(f"{{ #{name} }}\n")[1].split("\n#")[0]
    assert re.search(r"^Use it ", text, re.MULTILINE)
    for key, field in COMPONENTS[name].model_fields.items():
        assert f"| `{field.alias or key}` | " in text
        assert field.description.endswith("."), key


@pytest.mark.parametrize("name", [*OPERATORS, *SERVER_OPTIMIZERS])
def test_each_operator_and_optimizer_has_its_formula_and_paper(name):
    text = page("operators").split(f"{{ #{name} }}\n")[1].split("\n#")[0]
    assert re.search(r"θ'|v' = ", text)
    assert re.search(r"et al\. \d{4}|Karcher 1977|Raffel 2022", text)


def test_each_code_has_sentences_and_a_group():
    for code in ErrorCode:
        assert code.meaning.endswith("."), code
        assert code.remedy.endswith("."), code
    assert [code for _, codes in grouped_codes() for code in codes] == list(ErrorCode)
    assert all(f"`{code.value}`" in page("errors") for code in ErrorCode)


def test_each_event_has_sentences_and_a_line_of_a_run():
    text = page("events")
    for kind in kinds():
        assert f"{{ #{name_of(kind)} }}" in text
    assert examples().keys() == {name_of(kind) for kind in kinds()}
