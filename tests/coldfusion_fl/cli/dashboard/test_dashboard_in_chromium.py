"""The dashboard in a browser, while a run goes on."""

import threading

import pytest
import uvicorn
from scored_runs import make_scored_run
from web.browser import chromium, contrast, opened, overflow

from coldfusion_fl.cli.dashboard import live as module
from coldfusion_fl.cli.dashboard.live import LiveRun
from coldfusion_fl.cli.dashboard.server import new_app
from coldfusion_fl.runs import events
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.status import run_status

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def ledger(tmp_path):
    made = make_scored_run(tmp_path / "run", rounds=4)
    with made.lock():
        made.emit(events.NodesConnected(seen=["a", MARKUP, "b"], unseen=["u"], rounds=4))
        made.emit(events.RoundStarted(round=3, sampled=["a", MARKUP]))
        yield made


@pytest.fixture
def address(ledger, monkeypatch):
    monkeypatch.setattr(module, "_FRESH", 0)
    app = new_app(LiveRun(ledger.folder, lambda: run_status(Ledger(ledger.folder)).as_json()))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


def test_the_page_follows_the_run(browser, address, ledger):
    with opened(browser, address) as page:
        page.get_by_text("Round 2 of 4 is done; the run goes on").wait_for()
        page.get_by_text("round 3: contributors train").wait_for()
        assert page.locator("#members tr").count() == 4
        assert page.get_by_text("No loss has arrived yet.").is_visible()
        for step, loss in enumerate((3.0, 2.0, 1.5)):
            ledger.emit(events.TrainingStep(round=3, name="a", step=step + 1, steps=3, loss=loss))
        page.locator("#losses figure", has_text="1.5").wait_for()
        assert page.locator("#losses polyline").get_attribute("points").count(",") == 3
        ledger.emit(events.ContributionRejected(round=3, name="b", reason=f"not finite {MARKUP}"))
        page.locator("#problems li", has_text="not finite").wait_for()
        (ledger.folder / "log.txt").write_text(f"a line\n{MARKUP}\n")
        page.locator("#log", has_text="a line").wait_for()
        assert page.locator("img").count() == 0
        assert page.locator("#log", has_text=MARKUP).count() == 1


def test_the_report_of_the_rounds_so_far_is_one_click_away(browser, address):
    with opened(browser, address) as page:
        page.get_by_text("Round 2 of 4 is done").wait_for()  # leaving earlier would abort the first request
        page.get_by_role("link", name="Report of the rounds so far").click()
        page.get_by_text("report of a run").wait_for()
        page.locator("#task-table thead th").first.get_by_role("button").click()


def test_a_fault_of_the_page_is_not_blamed_on_the_server(browser, address):
    with opened(browser, address) as page:
        page.get_by_text("Round 2 of 4 is done").wait_for()
        page.route("**/live.json", lambda route: route.fulfill(json={}))
        page.locator("#trouble-text", has_text="undefined").wait_for()


def test_a_run_whose_state_is_not_known_has_not_ended(browser, ledger, address):
    (ledger.folder / "status.json").unlink()
    with opened(browser, address) as page:
        page.get_by_text("The state of the run is not known after round 2 of 4").wait_for()


def test_an_ended_run_says_how_it_ended(browser, ledger, address):
    ledger.state_file.failed(f"the disk is full {MARKUP}")
    with opened(browser, address) as page:
        page.get_by_text("The run failed after round 2 of 4").wait_for()
        page.get_by_text("the disk is full").wait_for()
        assert page.get_by_role("link", name="Report of the run").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_fits_a_phone_and_both_colour_schemes(browser, address, width, scheme):
    with opened(browser, address, width=width, scheme=scheme) as page:
        page.locator("#members tr").first.wait_for()
        assert overflow(page) == 0
        for selector in (".verdict", ".muted", ".note", "tbody th", "pre"):
            assert contrast(page, selector) >= 4.5, selector
