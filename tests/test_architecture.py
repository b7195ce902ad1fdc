"""The structure of the project: which package imports which, how large files and folders are, where tests are."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIDES = ("strategies", "clients", "engines", "experiments")
# The generators of the documentation's reference; they are not installed.
GENERATORS = "docs"
# Folders without Python code, which have tests too.
DATA = (Path("examples"),)
LINES, FILES = 350, 14

# From the bottom to the top: a package imports only from the layers below its own.
LAYERS = (
    ("error_codes",),
    ("errors",),
    ("versions", "extras", "sanitize", "atomic_files", "process_tree", "hub", "machine"),
    ("arrays", "config", "formatting"),
    ("fusion", "data"),
    ("aggregation", "model"),
    ("training", "checkpoints"),
    ("evaluation",),
    ("runs", "classifier"),
    ("tracking", "publishing"),
    ("preflight", "pages"),
    ("repository", "execution"),
    ("api",),
    ("cli",),
    ("strategies", "clients"),
    ("engines",),
    ("experiments",),
)
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}


@cache
def python_files() -> tuple[Path, ...]:
    folders = ("coldfusion_fl", *SIDES, GENERATORS, "tests")
    return tuple(sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")))


@cache
def syntax_tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def is_installed(file: Path) -> bool:
    return file.relative_to(ROOT).parts[0] in ("coldfusion_fl", *SIDES)


def module_of(file: Path) -> tuple[str, ...]:
    """The parts of a module's name as it is installed, such as (coldfusion_fl, strategies, sampling)."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts if parts[0] == "coldfusion_fl" else ("coldfusion_fl", *parts)


def package_of(module: tuple[str, ...]) -> str | None:
    """The package that the table names: the second part; None for coldfusion_fl itself."""
    return module[1] if len(module) > 1 and module[1] != "__init__" else None


def imported_modules(file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and parts of each imported module; imports inside functions too."""
    for found in ast.walk(syntax_tree(file)):
        if isinstance(found, ast.Import):
            for alias in found.names:
                yield found.lineno, tuple(alias.name.split("."))
        elif isinstance(found, ast.ImportFrom):
            here = module_of(file)[: -found.level] if found.level else ()
            module = (*here, *(found.module.split(".") if found.module else ()))
            # `from coldfusion_fl import errors` imports a module too.
            names = [alias.name for alias in found.names] if module == ("coldfusion_fl",) else []
            for parts in [(*module, name) for name in names] or [module]:
                yield found.lineno, parts


def imports_between_packages() -> Iterator[tuple[str, str, str]]:
    """Importing package, imported package and place, of all imports of a package from another one."""
    for file in python_files():
        importing = package_of(module_of(file))
        if not is_installed(file) or importing is None:
            continue
        for line, module in imported_modules(file):
            imported = package_of(module)
            if module[0] == "coldfusion_fl" and imported in LAYER_OF and imported != importing:
                yield importing, imported, f"{relative(file)}:{line}"


def report(breaches) -> None:
    breaches = sorted(breaches)
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_package_has_a_layer():
    report(
        {
            package
            for file in python_files()
            if is_installed(file)
            if (package := package_of(module_of(file))) and package not in LAYER_OF
        }
    )


def test_imports_go_downwards():
    report(
        f"{place}: {importing} imports {imported}"
        for importing, imported, place in imports_between_packages()
        if LAYER_OF[importing] <= LAYER_OF[imported]
    )


def test_the_core_knows_nothing_of_the_packages_beside_it():
    report(
        f"{place}: {importing} imports {imported}"
        for importing, imported, place in imports_between_packages()
        if importing not in SIDES and imported in SIDES
    )


def test_no_packages_import_each_other_in_a_circle():
    arrows: dict[str, set[str]] = {}
    for importing, imported, _ in imports_between_packages():
        arrows.setdefault(importing, set()).add(imported)

    def reachable(package: str) -> set[str]:
        found, waiting = set(), [package]
        while waiting:
            for following in arrows.get(waiting.pop(), set()) - found:
                found.add(following)
                waiting.append(following)
        return found

    report(
        f"{one} <-> {other}" for one in arrows for other in reachable(one) if one < other and one in reachable(other)
    )


def texts_that_are_no_docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    docstrings = {
        id(found.body[0].value)
        for found in ast.walk(tree)
        if isinstance(found, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and found.body
        and isinstance(found.body[0], ast.Expr)
    }
    for found in ast.walk(tree):
        if isinstance(found, ast.Constant) and isinstance(found.value, str) and id(found) not in docstrings:
            yield found


# "flwr", "flwr.common" or "python -m flwr.x": a logger, a module or a program of Flower's, or a module beside the core.
# In versions.py, "flwr" is the name of a distribution whose version is recorded.
MAY_NAME_FLOWER = ROOT / "coldfusion_fl" / "versions.py"
NAMES_A_MODULE = re.compile(rf"\bflwr\b|\bcoldfusion_fl\.({'|'.join(SIDES)})\b")


def test_the_core_knows_nothing_of_flower():
    breaches = []
    for file in python_files():
        if not file.is_relative_to(ROOT / "coldfusion_fl") or file == MAY_NAME_FLOWER:
            continue
        breaches += [
            f"{relative(file)}:{line}: imports {'.'.join(module)}"
            for line, module in imported_modules(file)
            if module[0] == "flwr"
        ]
        breaches += [
            f"{relative(file)}:{text.lineno}: names {text.value!r}"
            for text in texts_that_are_no_docstrings(syntax_tree(file))
            if NAMES_A_MODULE.search(text.value)
        ]
    report(breaches)


# Flower's documented modules; all else of Flower is private. `flwr.clientapp.typing` is in its guide to mods.
PUBLIC_FLOWER = {
    ("flwr", "app"),
    ("flwr", "clientapp"),
    ("flwr", "clientapp", "mod"),
    ("flwr", "clientapp", "typing"),
    ("flwr", "common"),
    ("flwr", "serverapp"),
    ("flwr", "serverapp", "strategy"),
    ("flwr", "simulation"),
}
MAY_USE_PRIVATE_FLOWER = ROOT / "engines" / "flower_internals.py"


def test_private_modules_of_flower_are_used_by_one_file_alone():
    report(
        f"{relative(file)}:{line}: imports {'.'.join(module)}"
        for file in python_files()
        if is_installed(file) and file != MAY_USE_PRIVATE_FLOWER
        for line, module in imported_modules(file)
        if module[0] == "flwr" and module not in PUBLIC_FLOWER
    )


def test_files_are_short():
    sizes = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in python_files()}
    report(f"{relative(file)}: {size} lines" for file, size in sizes.items() if size > LINES)


def test_folders_are_small():
    counts: dict[Path, int] = {}
    for file in python_files():
        counts[file.parent] = counts.get(file.parent, 0) + 1
    report(f"{relative(folder)}: {count} files" for folder, count in counts.items() if count > FILES)


def test_tests_mirror_the_source_folders():
    """Each source folder with code has tests of its own; a folder of tests is one of the source, or inside one."""
    tested = {file.parent.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")}
    source = {
        file.parent.relative_to(ROOT)
        for file in python_files()
        if not file.is_relative_to(ROOT / "tests") and file.name != "__init__.py"
    }
    untested = {f"{folder.as_posix()} has no tests" for folder in source if not has_tests(folder, tested)}
    strange = {
        f"tests/{folder.as_posix()} tests no folder of the source"
        for folder in tested
        if folder not in (Path("."), Path(GENERATORS), *DATA) and not source & {folder, *folder.parents} - {Path(".")}
    }
    report(untested | strange)


def has_tests(folder: Path, tested: set[Path]) -> bool:
    """Modules right under coldfusion_fl are tested by files right under tests/coldfusion_fl or below it."""
    return any(test == folder or folder in test.parents for test in tested)


@pytest.mark.parametrize(
    ("text", "names_one"),
    [("flwr", True), ("flwr.common", True), ("coldfusion_fl.engines.run", True), ("flwr-like", True), ("flow", False)],
)
def test_the_search_for_module_names_finds_them(text, names_one):
    assert bool(NAMES_A_MODULE.search(text)) is names_one


def test_the_wheel_has_every_package_and_the_files_beside_its_code():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    inits = [file for file in python_files() if is_installed(file) and file.stem == "__init__"]
    folders = {".".join(module_of(file)[:-1]): file.parent for file in inits}
    assert set(setuptools["packages"]) == set(folders)
    # setuptools looks for a package in the folder of its parent, which is another one for the packages beside the core.
    relative_folders = {name: folder.relative_to(ROOT) for name, folder in folders.items()}
    elsewhere = {name: folder.as_posix() for name, folder in relative_folders.items() if folder.parts[0] in SIDES}
    assert setuptools["package-dir"] == {"coldfusion_fl": "coldfusion_fl", **elsewhere}
    # The results of experiments are not installed.
    data = {
        file
        for name, folder in folders.items()
        if not name.startswith("coldfusion_fl.experiments")
        for file in (*folder.iterdir(), *folder.glob("templates/*"))
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    patterns = setuptools["package-data"].items()
    assert data <= {file for name, globs in patterns for glob in globs for file in folders[name].glob(glob)}
