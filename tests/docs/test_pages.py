"""Every command, file and piece of Python on the pages works: see `pages` for what is tried, and how."""

import pytest
from pages import ROOT, Page

# The number of blocks of each page that are not run. A page that needs more of them says here why, in its comments.
SKIPPED = {
    "README.md": 4,
    "docs/how-to/cluster.md": 1,
    "docs/how-to/fuse.md": 2,
    "docs/how-to/simulation.md": 1,
    "docs/how-to/strategy.md": 1,
    "docs/how-to/tracking.md": 1,
    "docs/start/demo.md": 1,
    "docs/start/install.md": 3,
    "docs/start/notebook.md": 5,
    "docs/start/your-data.md": 1,
}
# Pages whose commands take half a minute or more together.
SLOW = {
    "docs/how-to/federation.md",
    "docs/how-to/hub.md",
    "docs/how-to/model.md",
    "docs/how-to/privacy.md",
    "docs/how-to/simulation.md",
    "docs/how-to/tracking.md",
    "docs/operations/disk.md",
    "docs/operations/monitoring.md",
    "docs/start/your-data.md",
}

PAGES = sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PAGES])
def test_everything_on_the_page_works(name, tmp_path):
    page = Page(ROOT / name, tmp_path)
    page.run()
    assert len(page.skipped) == SKIPPED.get(name, 0), page.skipped


def test_the_tables_name_pages():
    assert {*SKIPPED, *SLOW} <= set(PAGES)
