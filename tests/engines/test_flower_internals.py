"""What the engines use of Flower's private modules."""

import ast
from pathlib import Path

import pytest

from coldfusion_fl.engines import flower_internals
from coldfusion_fl.engines.flower_internals import MODULES
from coldfusion_fl.errors import ErrorCode, RunError


@pytest.mark.parametrize("name", sorted(MODULES))
def test_this_version_of_flower_has_each_name(name):
    assert getattr(flower_internals, name)


def test_type_checkers_see_the_same_names():
    source = Path(flower_internals.__file__).read_text()
    imported = {
        alias.name
        for found in ast.walk(ast.parse(source))
        if isinstance(found, ast.ImportFrom)
        for alias in found.names
    }
    assert MODULES.keys() <= imported


@pytest.mark.parametrize("module", ["flwr.superlink.gone", "flwr.supercore.fab"])
def test_a_version_of_flower_without_a_name_is_one_sentence(monkeypatch, module):
    monkeypatch.setitem(MODULES, "Lost", module)
    with pytest.raises(RunError, match=rf"Flower 1\.\d+\.\d+, which has no {module}\.Lost") as error:
        _ = flower_internals.Lost
    assert error.value.code == ErrorCode.FLOWER_UNSUPPORTED


def test_a_library_that_is_missing_is_not_a_matter_of_flowers_version(monkeypatch):
    def load(module):
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(flower_internals, "import_module", load)
    with pytest.raises(ModuleNotFoundError):
        _ = flower_internals.pool_size_from_resources


def test_other_names_are_not_there():
    with pytest.raises(AttributeError):
        _ = flower_internals.anything
