"""The report of a bundle in a real browser: it opens from a folder, without a server or network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.fix_browser import AT_NIGHT, LAPTOP, PHONE
from tests.fix_seeded import BUCKETS, CALLS, STATIONS, TURNED_IN, Seeded

TRACE = CALLS[0].trace_id
PLAYERS = len(STATIONS) * 2 * (BUCKETS + 1)
# Loads the sound of a player and tells how long it is.
LOAD = """(player) => new Promise((resolve) => {
  player.onloadedmetadata = () => resolve(player.duration);
  player.onerror = () => resolve(player.error.message);
  player.preload = 'metadata';
  player.load();
})"""
AXE = "axe.run().then((result) => result.violations.map((each) => [each.impact, each.id]))"


@pytest.fixture(params=["wav", "flac"])
def report(seeded: Seeded, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the address of the report in an extracted bundle."""
    path = tmp_path / "a.zip"
    options = ("--flac",) if request.param == "flac" else ()
    code, _, err = seeded.call("traces", "export", TRACE, "-o", str(path), *options)
    assert 0 == code, err
    with ZipFile(path) as bundle:
        bundle.extractall(tmp_path / "extracted")
    return (tmp_path / "extracted" / TRACE / "report.html").as_uri()


def opened(context: BrowserContext, address: str) -> tuple[Page, list[str]]:
    """Open a page; return it with the list into which its complaints go."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith("file:") else complaints.append(request.url),
    )
    page.goto(address)
    return page, complaints


def test_every_player_finds_its_sound(context: BrowserContext, report: str) -> None:
    """Each player of the page loads a file beside it, five seconds or the whole."""
    page, complaints = opened(context, report)

    players = page.locator("audio")
    durations = [players.nth(number).evaluate(LOAD) for number in range(players.count())]

    assert PLAYERS == len(durations)
    assert {5.0, 5.0 * BUCKETS} == set(durations)
    assert [] == complaints


@pytest.mark.parametrize("screen", [LAPTOP, AT_NIGHT, PHONE], indirect=True)
@pytest.mark.parametrize("report", ["wav"], indirect=True)
def test_the_page_fits_and_keeps_nobody_out(context: BrowserContext, report: str) -> None:
    """No sideways scrolling of the page, nothing serious for axe-core, a link leads to its row."""
    page, complaints = opened(context, report)
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None

    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.locator("h2 + div a").first.click()
    page.locator("summary").first.click()
    target = page.locator("tr:target")

    assert 0 >= width
    assert "POST: lost speech" in target.inner_text()
    assert target.get_attribute("id", timeout=1_000) is not None
    page.evaluate(f"{Path(spec.origin).with_name('axe.min.js').read_text()}; undefined")
    assert [] == [each for each in page.evaluate(AXE) if each[0] in {"serious", "critical"}]
    assert [] == complaints
    assert TURNED_IN + 1 == page.locator("table.buckets").first.locator("tbody tr").evaluate_all(
        "(rows) => rows.findIndex((row) => row.matches(':target'))"
    )
