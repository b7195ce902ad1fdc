"""The built site: no broken link, and nothing from another server."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from links import ROOT

pytestmark = pytest.mark.slow
# What a browser loads without a click.
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return folder


class Loads(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if address := attributes.get(LOADED.get(tag, "")):
            self.addresses.append(address)
        if tag == "link" and not {"canonical", "prev", "next"} & set((attributes.get("rel") or "").split()):
            self.addresses.append(attributes.get("href") or "")


def test_no_page_loads_anything_from_another_server(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.addresses, page
        assert not [one for one in loads.addresses if re.match(r"(https?:)?//", one)], page


def test_no_style_sheet_loads_anything_from_another_server(site):
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(\s*['\"]?|@import\s*['\"]?)(?:https?:)?//[^)'\"]+", text), sheet


def test_a_setting_is_found_by_its_key(site):
    assert "server.blend" not in (site / "index.html").read_text(encoding="utf-8")
    assert '"location":"reference/settings.html#server-blend"' in (site / "search" / "search_index.json").read_text(
        "utf-8"
    )


def test_the_commands_of_all_packages_are_in_the_reference(site):
    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    core = ("run", "evaluate", "log", "report", "track", "dashboard", "settings", "tasks")
    for command in (*core, "experiment", "status", "federation", "member"):
        assert f'id="coldfusion-{command}"' in text, command
