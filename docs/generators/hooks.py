"""What MkDocs calls while it builds the site: see `hooks` in mkdocs.yml."""

import shutil
from pathlib import Path

import command_line  # noqa: F401  (mkdocs-click finds it by its name)
import links
from expand import expand
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Packages that stand at the top level of the repository, and are installed in coldfusion_fl.
_BESIDE = ("strategies", "clients", "engines", "experiments")


def on_startup(command: str, dirty: bool) -> None:
    """Copy all packages into one tree, as they are installed, in which mkdocstrings finds them.

    It does not import them, so it cannot follow the installation, and it does not follow links. The tree must exist
    before mkdocstrings reads its settings, which it does when MkDocs calls `on_config`.
    """
    tree = links.ROOT / "build" / "api" / "coldfusion_fl"
    shutil.rmtree(tree, ignore_errors=True)
    for package in ("", *_BESIDE):
        shutil.copytree(links.ROOT / (package or "coldfusion_fl"), tree / package, ignore=_no_code, dirs_exist_ok=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to."""
    for path, page in links.PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(links.ROOT / path)))
    # A copied page may link to further files.
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for path in links.linked_files(page.src_uri, expand(page.content_string)):
            place = links.place_in_site(path)
            if files.get_file_from_path(place) is None and not path.startswith("docs/"):
                copy = File.generated(config, place, abs_src_path=str(links.ROOT / path))
                files.append(copy)
                waiting += [copy] if copy.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the generated parts, and let the links lead to the copies."""
    return links.rewrite_links(page.file.src_uri, expand(markdown))


def _no_code(folder: str, names: list[str]) -> list[str]:
    """The files in a folder that are no Python modules."""
    return [name for name in names if (Path(folder) / name).is_file() and not name.endswith(".py")]
