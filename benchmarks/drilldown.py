"""How long people wait for the drill-down, on an archive of three days with a call of an hour.

Chromium runs already and shows another answer of the server; what counts is the time from
navigation to the frame in which everything is drawn. What a page asked is asked again without a
browser, one after the other: the server's share. "Cold" is a server that has just started, a
browser that knows nothing of the page, and sound that is not in the system's cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from archiver.migrations import create_database, migrate
from archiver.web.signing import KEY_FILE
from benchmarks.hour import BUCKETS, TRACE_ID, play_call
from benchmarks.report import Row
from benchmarks.seed import seed
from deploy.config import postgres_bin_dir
from deploy.postgres import EmbeddedPostgres
from deploy.serve import drilldown_process
from exporter.config import Settings, load_settings
from exporter.keyfile import make_key

CHROMIUM = Path("/usr/bin/chromium")
FIRST_BAR_MS, CALL_BAR_MS = 200.0, 1_000.0
ROUNDS = 20
COLD_ROUNDS = 5
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
_SCREEN: ViewportSize = {"width": 1366, "height": 800}
_QUIET_MS = 400
_PATIENCE_MS = 30_000
# Notes when the last answer was there and drawn: two frames after it, when nothing is on its way.
_WATCH = """
(() => {
  const before = window.fetch;
  let coming = 0;
  window.drawn = 0;
  const note = () => requestAnimationFrame(() => requestAnimationFrame(() => {
    if (coming === 0) window.drawn = performance.now();
  }));
  const ended = () => { coming -= 1; note(); };
  window.fetch = async (...given) => {
    coming += 1;
    try {
      const answer = await before(...given);
      const body = await answer.clone().arrayBuffer();
      return new Response(body, { status: answer.status, headers: answer.headers });
    } finally {
      setTimeout(ended, 0);
    }
  };
})();
"""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long one page takes, in ms, one value a round.

    Attributes:
        drawn: From navigation to everything drawn.
        answered: All that the page asks of the server, one after the other, without static files.
        asked: What it asks.
    """

    drawn: list[float]
    answered: list[float]
    asked: list[str]


def rows(aggregates: int = 20_000_000) -> list[Row]:
    """Seed an archive, measure, and return lines for the results."""
    if not CHROMIUM.exists():
        print(f"no {CHROMIUM}: the drill-down is not measured; make test-tools installs it")
        return []
    with archive(aggregates) as (settings, size):
        first, cold, warm = measure(settings)
    front = f"first page of {size / 1e6:.0f} M aggregates"
    hour = "page of an hour-long call"
    return [
        _row(f"{front}: its {len(first.asked)} answers", first.answered, FIRST_BAR_MS),
        _row(f"{front}: drawn in Chromium", first.drawn),
        _row(f"{hour}, cold: its {len(cold.asked)} answers", cold.answered),
        _row(f"{hour}, cold: drawn in Chromium", cold.drawn, CALL_BAR_MS),
        _row(f"{hour}, warm: its {len(warm.asked)} answers", warm.answered),
        _row(f"{hour}, warm: drawn in Chromium", warm.drawn, CALL_BAR_MS),
    ]


def _row(what: str, times: list[float], bar_ms: float | None = None) -> Row:
    p50, p95 = median(times), _p95(times)
    text = f"{what}; p95, and p50 as peer"
    bar = "" if bar_ms is None else f"<= {bar_ms:.0f} ms"
    holds = None if bar_ms is None else p95 <= bar_ms
    return Row(text, f"{p95:.0f} ms", f"{p50:.0f} ms", p50 / p95, bar, holds)


def measure(
    settings: Settings, *, rounds: int = ROUNDS, cold_rounds: int = COLD_ROUNDS
) -> tuple[Waits, Waits, Waits]:
    """Return the waits for the first page, and for the long call, cold and warm."""
    call = f"call/{TRACE_ID}"
    cold = Waits([], [], [])
    with _chromium() as browser:
        for _ in range(cold_rounds):
            with _cold(settings) as address, _tab(browser, address) as page:
                drawn, asked = _open(page, address + call)
            cold.drawn.append(drawn)
            with _cold(settings) as address:
                cold.answered.append(_ask(address, asked))
            cold.asked[:] = asked
        with drilldown_process(settings) as address:
            first = _warm(browser, address, "", rounds)
            warm = _warm(browser, address, call, rounds)
    return first, cold, warm


def _warm(browser: Browser, address: str, path: str, rounds: int) -> Waits:
    waits = Waits([], [], [])
    for number in range(rounds + 1):
        # A new profile in each round: nothing but the server remembers.
        with _tab(browser, address) as page:
            drawn, asked = _open(page, address + path)
        if number:
            waits.drawn.append(drawn)
            waits.answered.append(_ask(address, asked))
            waits.asked[:] = asked
    return waits


def _open(page: Page, address: str) -> tuple[float, list[str]]:
    """Open a page; return when it was drawn, and what it asked beside static files."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    deadline = time.monotonic() + _PATIENCE_MS / 1e3
    drawn = 0.0
    while not drawn or page.evaluate("performance.now()") - drawn < _QUIET_MS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{address} was not drawn within {_PATIENCE_MS} ms")
        page.wait_for_timeout(50)
        drawn = float(page.evaluate("window.drawn"))
    if page.locator("#problem:visible").count() or "loading" in page.inner_text("main"):
        raise RuntimeError(f"{address} is not whole: {page.inner_text('main')[:500]}")
    return drawn, [each for each in asked if "/static/" not in each]


def _ask(address: str, asked: list[str]) -> float:
    """Ask a server the same, one after the other; return the ms that it takes."""
    paths = [f"{parts.path}?{parts.query}" for parts in map(urlsplit, asked)]
    with httpx.Client(base_url=address, timeout=30) as client:
        client.get("/static/favicon.svg")
        begun = time.perf_counter()
        for path in paths:
            client.get(path).raise_for_status()
        return (time.perf_counter() - begun) * 1e3


@contextmanager
def archive(aggregates: int, buckets: int = BUCKETS) -> Iterator[tuple[Settings, int]]:
    """Yield settings of an archive with three days and the long call, and its aggregates."""
    with (
        EmbeddedPostgres(bin_dir=postgres_bin_dir(), fsync=False) as server,
        tempfile.TemporaryDirectory(prefix="monitoring-bench-") as name,
    ):
        create_database(server.conninfo())
        migrate(server.conninfo())
        seeded = seed(server.conninfo(), aggregates=aggregates)
        folder = Path(name)
        settings = replace(
            load_settings({}),
            db=server.conninfo(),
            audio_path=folder / "audio",
            spool_path=folder / "spool",
            targets_path=folder,
            serve_ports=tuple(range(19_465, 19_497)),
            signing_key_file=folder / KEY_FILE,
        )
        make_key(folder / KEY_FILE)
        play_call(settings, buckets)
        yield settings, seeded.aggregates


@contextmanager
def _cold(settings: Settings) -> Iterator[str]:
    """Serve from a new process, with the sound out of the system's cache."""
    for path in settings.audio_path.rglob("*.wav"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    with drilldown_process(settings) as address:
        yield address


@contextmanager
def _chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_OPTIONS))
        yield browser
        browser.close()


@contextmanager
def _tab(browser: Browser, address: str) -> Iterator[Page]:
    """Yield a tab with a fresh profile, in which a text of this server stands already."""
    context = browser.new_context(viewport=_SCREEN)
    context.add_init_script(_WATCH)
    page = context.new_page()
    page.goto(f"{address}openapi.json")
    yield page
    context.close()


def _p95(times: list[float]) -> float:
    return sorted(times)[round(0.95 * (len(times) - 1))]
