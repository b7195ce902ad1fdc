import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.aggregation.screening import RULES, Block
from coldfusion_fl.config.components import as_component, as_components, parse_component, parse_components
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import OPERATORS, Mean, Slerp, Ties, WeightedMean


@pytest.mark.parametrize("name", OPERATORS)
def test_each_operator_is_made_of_its_name_and_spelt_again(name):
    part = parse_component(name, OPERATORS, "fusion")
    assert parse_component(str(part), OPERATORS, "fusion") == part


def test_parameters():
    assert parse_component(" ties( density = 0.5 ,scale=2 ) ", OPERATORS, "fusion") == Ties(density=0.5, scale=2.0)
    assert parse_component("TIES(Density=0.5)".replace("D", "d"), OPERATORS, "fusion") == Ties(density=0.5)
    assert parse_component("trimmed_mean", OPERATORS, "fusion").name == "trimmed-mean"
    assert parse_component("mean()", OPERATORS, "fusion") == Mean()
    given = parse_component("weighted-mean(weights=a:2 b-c:0.5)", OPERATORS, "fusion")
    assert given == WeightedMean(weights={"a": 2.0, "b-c": 0.5})
    assert parse_component(str(given), OPERATORS, "fusion") == given
    assert as_component(Slerp(0.3), OPERATORS, "fusion") == as_component("slerp(t=0.3)", OPERATORS, "fusion")


def test_names_are_names_whatever_they_look_like():
    assert parse_component("block(names=1 true a:2)", RULES, "screening") == Block(names=("1", "true", "a:2"))
    assert Block(names="task-10").names == ("task-10",)
    assert parse_component("weighted-mean(weights=host:80:2)", OPERATORS, "fusion").weights == {"host:80": 2.0}


@given(st.floats(1e-3, 1), st.floats(1e-9, 1e9))
def test_the_text_makes_the_same_part_again(density, scale):
    part = Ties(density=density, scale=scale)
    assert parse_component(str(part), OPERATORS, "fusion") == part


def test_a_list_is_cut_at_its_outer_commas():
    assert parse_components("ties(density=0.5, scale=2), mean, slerp(t=0)", OPERATORS, "fusion") == (
        Ties(density=0.5, scale=2.0),
        Mean(),
        Slerp(t=0.0),
    )
    assert as_components(["mean", Slerp()], OPERATORS, "fusion") == (Mean(), Slerp())
    assert parse_components(" ", OPERATORS, "fusion") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("medium", "fusion: there is no 'medium'. Did you mean 'median'? Known are: dare, fisher,"),
        ("xyz", "fusion: there is no 'xyz'. Known are: dare, fisher, geometric-median"),
        ("ties(densty=0.2)", "unknown setting 'ties.densty'. Did you mean 'density'?"),
        ("ties(density=0)", "'ties.density' must be above 0, but is 0"),
        ("ties(density=1.5)", "'ties.density' must be at most 1, but is 1.5"),
        ("dare(drop-rate=1)", "'dare.drop-rate' must be below 1"),
        ("trimmed-mean(cut=nan)", "must be a finite number, but is nan"),
        ("ties(density)", "'density' is no parameter; write key=value, and several names with spaces"),
        ("mean(x=1)", "mean has no parameters"),
        ("ties(density=0.1, density=0.9)", "'density' is given twice"),
        ("karcher(iterations=2.5)", "must be a whole number, but is 2.5"),
        ("ties(density=high)", "must be a number, but is 'high'"),
        ("weighted-mean(weights=a:-1)", "must give numbers of at least 0 by name"),
        ("ties(density=0.2", "write a name and its parameters"),
        ("", "write a name and its parameters"),
    ],
)
def test_what_is_wrong_is_said(text, words):
    with pytest.raises(SettingsError) as caught:
        parse_component(text, OPERATORS, "fusion")
    assert words in str(caught.value)


def test_a_part_made_in_python_is_checked_too():
    with pytest.raises(SettingsError, match="ties: 'density' must be above 0"):
        Ties(density=0)
    with pytest.raises(SettingsError, match="dare: 'drop-rate' must be a number"):
        parse_component("dare", OPERATORS, "fusion").__class__(drop_rate="x")
