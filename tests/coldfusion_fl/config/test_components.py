import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.aggregation.rules import RULES, Direction, Size
from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS, Nesterov
from coldfusion_fl.config.components import as_component, as_components, parse_component, parse_components
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.fusion import OPERATORS, Mean, Ties, WeightedMean

ALL = {**OPERATORS, **SERVER_OPTIMIZERS, **RULES}


@pytest.mark.parametrize("name", ALL)
def test_the_text_of_each_component_can_be_parsed_again(name):
    component = parse_component(name, ALL, "component")
    assert parse_component(str(component), ALL, "component") == component


@pytest.mark.parametrize("component", ALL.values())
def test_each_parameter_has_a_sentence(component):
    assert all(field.description.endswith(".") for field in component.model_fields.values())


def test_parameters():
    assert parse_component(" ties( density = 0.5 ,scale=2 ) ", OPERATORS, "fusion") == Ties(density=0.5, scale=2.0)
    assert parse_component("TIES(density=1e-1)", OPERATORS, "fusion") == Ties(density=0.1)
    assert parse_component("trimmed_mean", OPERATORS, "fusion").name == "trimmed-mean"
    assert parse_component("mean()", OPERATORS, "fusion") == Mean()
    assert parse_component("direction(min-cosine=-0.5)", RULES, "screening") == Direction(min_cosine=-0.5)
    nesterov = parse_component("nesterov(learning-rate=0.5,\n momentum=0)", SERVER_OPTIMIZERS, "server-optimizer")
    assert nesterov == Nesterov(learning_rate=0.5, momentum=0.0)
    assert str(nesterov) == "nesterov(learning-rate=0.5, momentum=0)"


@pytest.mark.parametrize("name", ["num-examples", "num_examples", "a", "1 b", "f-1", "for", "it's", 'say "so"', ""])
def test_text_values_stay_as_they_are(name):
    component = WeightedMean(by=name)
    assert parse_component(str(component), OPERATORS, "fusion") == component
    assert str(WeightedMean()) == "weighted-mean(by=num-examples)"


@given(st.floats(1e-3, 1), st.floats(1e-9, 1e9))
def test_the_text_has_all_digits(density, scale):
    component = Ties(density=density, scale=scale)
    assert parse_component(str(component), OPERATORS, "fusion") == component


def test_a_list_of_components():
    assert parse_components("ties(density=0.5, scale=2), mean, dare(seed=0)", OPERATORS, "fusion")[:2] == (
        Ties(density=0.5, scale=2.0),
        Mean(),
    )
    assert as_components(["size", Direction()], RULES, "screening") == (Size(), Direction())
    assert parse_components(" ", OPERATORS, "fusion") == ()


def test_a_component_is_a_text_or_an_object():
    assert as_component(Ties(density=0.3), OPERATORS, "fusion") == as_component(
        "ties(density=0.3)", OPERATORS, "fusion"
    )
    with pytest.raises(SettingsError, match="'mean', but is 3") as error:
        as_component(3, OPERATORS, "fusion")
    assert error.value.code == ErrorCode.COMPONENT_INVALID


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("medium", ["fusion", "'medium'", "Did you mean 'median'?", "Available: dare, fisher,"]),
        ("xyz", ["fusion", "'xyz'", "Available: dare, fisher, geometric-median"]),
    ],
)
def test_an_unknown_component_is_named(text, facts):
    with pytest.raises(SettingsError) as error:
        parse_component(text, OPERATORS, "fusion")
    assert error.value.code == ErrorCode.COMPONENT_UNKNOWN
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ties(densty=0.2)", "unknown setting 'ties.densty'. Did you mean 'density'?"),
        ("ties(density=0)", "'ties.density' must be above 0, but is 0"),
        ("ties(density=1.5)", "'ties.density' must be at most 1, but is 1.5"),
        ("dare(drop-rate=1)", "'dare.drop-rate' must be below 1"),
        ("trimmed-mean(cut=1e999)", "must be a finite number, but is inf"),
        ("trimmed-mean(cut=nan)", "must be a number, but is 'nan'"),
        ("ties(density)", "'density' has no name. Write key=value"),
        ("ties(**x)", "write each parameter as key=value"),
        ("mean(x=1)", "mean has no parameters"),
        ("ties(density=0.1, density=0.9)", "'density' is given twice"),
        ("karcher(iterations=2.5)", "must be a whole number, but is 2.5"),
        ("karcher(iterations=True)", "must be a whole number, but is True"),
        ("ties(density=high)", "must be a number, but is 'high'"),
        ("weighted-mean(by=3-f)", "3-f is not a number, a name or a quoted text"),
        ("weighted-mean(by=open('x'))", "Put quotes around a text"),
        ("ties(density=0.2", "write a name and its parameters"),
        ("ties.x(density=0.2)", "write a name and its parameters"),
        ("mean, median", "write one name and its parameters"),
        ("mean] + [median", "write a name and its parameters"),
        ("mean\0", "write a name and its parameters"),
        ("", "write one name and its parameters"),
    ],
)
def test_a_wrong_text_is_explained(text, words):
    with pytest.raises(SettingsError) as error:
        parse_component(text, OPERATORS, "fusion")
    assert error.value.code == ErrorCode.COMPONENT_INVALID
    assert words in str(error.value)
    assert "fusion" in str(error.value)


def test_a_component_made_in_python_is_checked_too():
    with pytest.raises(SettingsError, match="Ties: 'density' must be above 0"):
        Ties(density=0)
    with pytest.raises(SettingsError, match="Dare: 'drop_rate' must be a number"):
        OPERATORS["dare"](drop_rate="x")
