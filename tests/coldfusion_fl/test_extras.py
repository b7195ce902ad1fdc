"""The extras: what each of them brings, and the message about one that is not installed."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.extras import EXTRAS, missing_extra, require

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPT = ROOT / "tests" / "support" / "hooks" / "without_modules.py"
BROUGHT_BY_FLOWER = {"cryptography", "h11", "httpx", "markdown_it", "markupsafe", "starlette", "tomli_w", "uvicorn"}
COMMAND = "from coldfusion_fl.cli.main import main; main()"
# Imported by benchmarks in environments of their own, brought by matplotlib, and by Flower.
ELSEWHERE = {"mergekit", "PIL", "google"}


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements):
    return {normalized(Requirement(text).name) for text in requirements}


def brought_by(*distributions):
    """All distributions that some distributions bring, without extras."""
    found, waiting = set(), list(distributions)
    while waiting:
        if (name := normalized(waiting.pop())) in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return found


def test_the_base_installation_adds_nothing_to_flower_and_numpy():
    assert names(PROJECT["dependencies"]) <= brought_by("flwr", "numpy")


def test_what_the_strategy_imports_of_others_is_a_dependency():
    code = "import sys, coldfusion_fl.strategies.cold_fusion as s; print(*(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    optional = {module for modules in EXTRAS.values() for module in modules}
    assert not (optional - BROUGHT_BY_FLOWER) & set(loaded)


def imported_by_the_package():
    folders = ("coldfusion_fl", "strategies", "clients", "engines", "experiments")
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for found in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(found, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in found.names)
            elif isinstance(found, ast.ImportFrom) and not found.level:
                yield (found.module or "").partition(".")[0]


def test_each_imported_package_is_a_dependency_or_in_an_extra():
    imported = set(imported_by_the_package()) - set(sys.stdlib_module_names) - {"coldfusion_fl"} - ELSEWHERE
    base = names(PROJECT["dependencies"])
    optional = {module for modules in EXTRAS.values() for module in modules}
    assert {module for module in imported if normalized(module) not in base} <= optional


def test_the_modules_of_the_extras_are_those_of_the_installation():
    assert EXTRAS.keys() == PROJECT["optional-dependencies"].keys() - {"all", "bench", "docs", "dev"}
    distributions = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        wanted = PROJECT["optional-dependencies"][extra]
        if all(Requirement(text).name == "flwr" for text in wanted):  # Flower's own extra
            continue
        for module in modules:
            assert {normalized(name) for name in distributions[module]} & names(wanted), module


def test_all_has_each_extra():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(everything).extras == set(EXTRAS)


def test_the_app_of_flwr_run_gets_what_a_simulation_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (group,) = project["tool"]["uv"]["default-groups"]
    (needed,) = project["dependency-groups"][group]
    assert Requirement(needed).name == PROJECT["name"]
    assert {"models", "simulation"} <= Requirement(needed).extras


def test_what_is_installed_is_not_missed():
    require("this test", *EXTRAS["models"], *EXTRAS["simulation"])


def test_a_missing_module_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError) as error:
        require("a simulation", "ray", "torch")
    assert error.value.code == ErrorCode.EXTRA_MISSING
    assert str(error.value) == (
        "a simulation needs ray, which is not installed: pip install 'coldfusion-fl[simulation]'"
    )


def test_several_missing_modules_make_one_command(monkeypatch):
    for module in ("ray", "torch", "pandas", "scipy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r"ray, torch, pandas and 1 more.*'coldfusion-fl\[models,simulation\]'$"):
        require("a run", "ray", "torch", "pandas", "scipy")
    with pytest.raises(SettingsError, match=r"needs torch, pandas and scipy, which are not"):
        require("a run", "torch", "pandas", "scipy")


def test_a_failed_import_of_an_extra_becomes_the_same_error():
    error = missing_extra(ModuleNotFoundError("No module named 'pandas'", name="pandas"), "this command")
    assert "pip install 'coldfusion-fl[models]'" in str(error)
    for other in (ModuleNotFoundError("", name="somebody"), ModuleNotFoundError(""), ValueError("pandas")):
        assert missing_extra(other, "this command") is None


def without(extras, code, *words, folder):
    """Run code as in an environment without some extras, whose names have commas between them."""
    hidden = {module for extra in extras.split(",") for module in EXTRAS[extra]} - BROUGHT_BY_FLOWER
    command = [sys.executable, SCRIPT, ",".join(hidden), code, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_the_command_line_shows_its_help_without_extras(tmp_path):
    done = without("models,simulation", COMMAND, "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "federation" in done.stdout


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ("models", ["run", "run.toml"]),
        ("models", ["tasks", "newsgroups"]),
        ("models", ["evaluate", "base", "--tasks", "newsgroups"]),
        ("models", ["log", "run"]),
        ("models", ["status", "run"]),
        ("models", ["track", "run"]),
        ("models", ["dashboard", "run"]),
        ("models", ["federation", "init", "acme", "--address", "127.0.0.1:9443"]),
        ("models", ["member", "check", "."]),
        ("models", ["experiment", str(ROOT / "experiments" / "pool.toml"), "--out", "out", "--work", "work"]),
        ("simulation", ["run", "run.toml"]),
        ("models,simulation", ["run", "run.toml"]),
    ],
)
def test_a_command_without_its_extra_is_one_sentence(tmp_path, extras, words):
    (tmp_path / "run.toml").write_text("")
    done = without(extras, COMMAND, *words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"pip install 'coldfusion-fl[{extras}]'" in done.stderr


def test_a_ledger_without_safetensors_is_one_sentence_and_leaves_no_folder(tmp_path):
    code = """
from pathlib import Path
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.runs.ledger import Ledger
try:
    Ledger.create(Path("run"), {})
except SettingsError as error:
    print(error.code, error)
"""
    done = without("models", code, folder=tmp_path)
    assert done.stdout == (
        "extra-missing a run folder needs safetensors, which is not installed: pip install 'coldfusion-fl[models]'\n"
    ), done.stderr
    assert not (tmp_path / "run").exists()
