"""The pages in a browser: no error in the console, tables that sort, phones, both colour schemes, print."""

import io

import pypdf
import pytest
from experiment_scores import make_scores
from scored_runs import make_scored_run
from web.browser import chromium, contrast, opened, overflow

from coldfusion_fl.experiments.outcome import write_outcome
from coldfusion_fl.pages.run_page import write_run_page

pytestmark = pytest.mark.slow

LONG = "a_task_with_a_very_long_name_" * 6
BASE = {"a": 50.0, LONG: 50.0, "b": 50.0, "u": 50.0, "v": 50.0}
GAINS = {name: {"a": 2.0, "b": 3.0, "u": 1.0, "v": -2.0} for name in ("paper", LONG)}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The addresses of the report of a run and of an experiment."""
    folder = tmp_path_factory.mktemp("pages")
    run = make_scored_run(folder / f"run-{LONG}"[:200], rounds=2, base=LONG)
    write_run_page(run)
    write_outcome(make_scores(folder, BASE, GAINS))
    return {"run": (run.folder / "report.html").as_uri(), "experiment": (folder / "report.html").as_uri()}


@pytest.fixture(params=["run", "experiment"])
def address(request, pages):
    return pages[request.param]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_a_page_is_never_wider_than_its_window(browser, address, width):
    with opened(browser, address, width=width) as page:
        assert overflow(page) == 0
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert overflow(page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast_in_both_colour_schemes(browser, address, scheme):
    with opened(browser, address, scheme=scheme) as page:
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(back.split("(")[1].split(",")[0])
        assert (red > 200) is (scheme == "light")
        for selector in (".verdict", ".muted", ".note", "tbody th", ".interval", "summary"):
            assert contrast(page, selector) >= 4.5, selector


def column(page, table, number):
    return page.eval_on_selector_all(
        f"{table} tbody tr", f"(rows) => rows.map((row) => row.cells[{number}].textContent.trim())"
    )


def test_a_click_on_a_heading_sorts_by_number_and_then_the_other_way(browser, pages):
    with opened(browser, pages["run"]) as page:
        head = page.locator("#task-table thead th").nth(3)
        assert column(page, "#task-table", 0) == ["a", "b", "u"]
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert column(page, "#task-table", 0) == ["a", "u", "b"]  # +4, +3, −10
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(page, "#task-table", 0) == ["b", "u", "a"]
        assert page.locator("#task-table tfoot tr").count() >= 2


def test_the_keyboard_sorts_texts_too(browser, pages):
    with opened(browser, pages["run"]) as page:
        head = page.locator("#task-table thead th").first
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert column(page, "#task-table", 0) == ["u", "b", "a"]


def test_cells_without_a_value_are_always_last(browser, pages):
    with opened(browser, pages["run"]) as page:
        button = page.locator("#rounds thead th").nth(5).get_by_role("button")
        for _ in range(2):
            button.click()
            assert column(page, "#rounds", 5)[-1] == "–"


def test_tables_of_the_experiment_sort_by_the_number_that_a_cell_begins_with(browser, pages):
    with opened(browser, pages["experiment"]) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        table = page.locator("table", has=page.locator("th", has_text="test rows")).first
        head = table.locator("th", has_text="paper").first
        head.get_by_role("button").click()
        gains = table.locator("tbody tr").evaluate_all(
            "(rows) => rows.map((row) => parseFloat(row.cells[4].textContent))"
        )
        assert len(gains) > 1
        assert gains == sorted(gains, reverse=True)


def test_the_chart_fits_its_window(browser, pages):
    for width, shown in ((1280, "wide"), (390, "narrow")):
        with opened(browser, pages["run"], width=width) as page:
            visible = page.locator("svg.chart:visible")
            assert visible.count() == 1
            assert shown in visible.get_attribute("class")
            assert visible.bounding_box()["height"] > 150


@pytest.mark.parametrize(("kind", "folded"), [("run", "contributors-per-round"), ("experiment", "at most 2 epochs")])
def test_the_page_is_printed_with_all_that_is_folded(browser, pages, kind, folded):
    with opened(browser, pages[kind]) as page:
        assert not page.get_by_text(folded).is_visible()
        printed = page.pdf(format="A4")
    text = " ".join(part.extract_text() for part in pypdf.PdfReader(io.BytesIO(printed)).pages)
    assert len(text) > 1000
    assert folded in " ".join(text.split())
