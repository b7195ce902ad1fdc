"""Pages in Debian's Chromium, without a screen and without the network."""

import contextlib
import os
import shutil

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium():
    """A browser with a fresh profile.

    Without Chromium the test fails, so that CI cannot pass without it. COLDFUSION_NO_BROWSER=1 skips it.
    """
    if os.environ.get("COLDFUSION_NO_BROWSER"):
        pytest.skip("COLDFUSION_NO_BROWSER is set")
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.fail(
            "Chromium is missing. Install it (Debian: apt-get install chromium), or set COLDFUSION_NO_BROWSER=1 to skip"
            " the tests of pages in a browser."
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1200, scheme="light"):
    """A page in a window of its own; at the end, its console must be empty."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed request: {request.url[:200]}"))
    page.goto(address)
    yield page
    assert said == []
    context.close()


def overflow(page):
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def contrast(page, selector):
    """The contrast of a text with the background of the page, as WCAG defines it."""
    return page.evaluate(
        """(selector) => {
          const light = (colour) => {
            const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
              const share = part / 255;
              return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
          };
          let box = document.querySelector(selector);
          const text = light(getComputedStyle(box).color);
          while (getComputedStyle(box).backgroundColor === "rgba(0, 0, 0, 0)") box = box.parentElement;
          const back = light(getComputedStyle(box).backgroundColor);
          return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
        }""",
        selector,
    )
