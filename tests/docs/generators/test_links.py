"""Links from pages to files of the repository lead to their copies in the site."""

import pytest
from links import linked_files, place_in_repository, place_in_site, rewrite_links


@pytest.mark.parametrize(
    ("page", "link", "rewritten"),
    [
        ("index.md", "../experiments/README.md", "repository/experiments/README.md"),
        ("how-to/gpu.md", "../../experiments/results/gpu.json", "../repository/experiments/results/gpu.json"),
        ("how-to/gpu.md", "federation.md#anchor", "federation.md#anchor"),
        ("contributing.md", "SECURITY.md", "repository/SECURITY.md"),
        ("contributing.md", "docs/architecture.md", "architecture.md"),
        ("contributing.md", "experiments", "repository/experiments/README.md"),
        ("repository/experiments/README.md", "../docs/concepts.md#words", "../../concepts.md#words"),
        ("repository/README.md", "CONTRIBUTING.md", "../contributing.md"),
        ("index.md", "https://flower.ai", "https://flower.ai"),
        ("index.md", "missing.md", "missing.md"),  # MkDocs reports it
    ],
)
def test_a_link_leads_to_the_place_in_the_site(page, link, rewritten):
    assert rewrite_links(page, f"See [this]({link}).") == f"See [this]({rewritten})."


@pytest.mark.parametrize("link", ["../tests/engines", "../.ci/run"])
def test_a_link_to_what_the_site_does_not_have_becomes_text(link):
    assert rewrite_links("index.md", f"See [`this`]({link}).") == "See `this`."


def test_blocks_of_code_are_left_alone():
    text = "```python\ntable[key](../README.md)\n```\n"
    assert rewrite_links("index.md", text) == text
    assert not list(linked_files("index.md", text))


def test_the_linked_files_are_found():
    text = "[a](../README.md) ![b](../docs/demo-scores.png) [c](../tests/engines) [d](https://x.org) [e](#there)"
    assert list(linked_files("index.md", text)) == ["README.md", "docs/demo-scores.png"]


@pytest.mark.parametrize("page", ["index.md", "how-to/gpu.md", "contributing.md", "repository/experiments/README.md"])
def test_the_two_places_of_a_page_belong_together(page):
    assert place_in_site(place_in_repository(page)) == page
