"""The names at the top of the package: all there, loaded late, and with examples that work."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import coldfusion_fl as cf


def test_each_name_is_there():
    assert set(cf.__all__) == set(cf._MODULES)
    assert set(cf.__all__) <= set(dir(cf))
    for name in cf.__all__:
        assert getattr(cf, name).__doc__, name


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(cf.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: found.module.removeprefix("coldfusion_fl.")
        for found in ast.walk(tree)
        if isinstance(found, ast.ImportFrom) and found.module.startswith("coldfusion_fl.")
        for alias in found.names
        if alias.name in cf.__all__
    }
    assert typed == cf._MODULES


def test_an_unknown_name_is_not_there():
    with pytest.raises(AttributeError, match="finetun"):
        _ = cf.finetun


def test_the_import_loads_no_other_module_of_this_package_or_another_one():
    code = "import sys; before = set(sys.modules); import coldfusion_fl; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0].lstrip("_") not in sys.stdlib_module_names}
    assert loaded - {"_typing"} == {"coldfusion_fl"}


@pytest.mark.parametrize("module", ["api.models", "api.scores", "data.task", "classifier"])
def test_the_examples_in_the_docstrings_work(module):
    found = doctest.testmod(
        importlib.import_module(f"coldfusion_fl.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 1
    assert found.failed == 0
