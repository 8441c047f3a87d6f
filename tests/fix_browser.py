"""A real Chromium for the tests of the pages. A page that complains in its console fails."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.fix_drilldown import Drilldown

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
SOON_MS = 10_000
_POLL_MS = 20


Samples = npt.NDArray[np.int16]
Heard = npt.NDArray[np.float64]


class Screen(NamedTuple):
    """Size in pixels, and whether its owner likes light or dark."""

    width: int
    height: int
    scheme: Literal["light", "dark"]


LAPTOP, PHONE = Screen(1366, 800, "light"), Screen(375, 740, "light")
AT_NIGHT = LAPTOP._replace(scheme="dark")
# Puts a recorder beside the loudspeaker, before any script of the page runs.
_RECORDER = """
(() => {
  const connect = AudioNode.prototype.connect;
  window.heard = [];
  AudioNode.prototype.connect = function (to, ...more) {
    const { context } = this;
    if (to instanceof AudioDestinationNode && !(this instanceof ScriptProcessorNode)) {
      if (!context.tape) {
        context.tape = context.createScriptProcessor(16384, 1, 1);
        context.tape.onaudioprocess = ({ inputBuffer }) => {
          window.heard.push(Array.from(inputBuffer.getChannelData(0)));
        };
        connect.call(context.tape, context.destination);
      }
      connect.call(this, context.tape);
    }
    return connect.call(this, to, ...more);
  };
})();
"""
_OF_RECORDER = "ScriptProcessorNode is deprecated"
_FULL_SCALE = 32_768
_HANDED_OVER_MS = 1_500
_GRAVE = {"serious", "critical"}
_PLAYER_STATE = "document.querySelector('#player').dataset"


@dataclass
class Tab:
    """One page of a browser.

    Attributes:
        page: The page.
        address: Of the drill-down.
        complaints: What the console said that was no plain message.
    """

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to a page and wait until it has its data."""
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("networkidle")

    def open_call(self, trace_id: str, moment: str = "") -> None:
        """Go to the page of a call and wait until its player is there."""
        self.open(f"/call/{trace_id}{moment}")
        self.page.wait_for_selector("#player", state="visible")

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def player(self, name: str) -> str:
        """Return what the player shows: ``state``, ``tap``, ``time`` or ``matched``."""
        return str(self.page.evaluate(f"{_PLAYER_STATE}.{name}"))

    @property
    def moment(self) -> float:
        """The moment of the player in seconds since 1970."""
        return float(self.player("time"))

    def wait_for_player(self, condition: str) -> None:
        """Wait until the player's data, called `p`, fulfil a condition."""
        # The page forbids eval, which waiting inside of it would need.
        deadline = time.monotonic() + SOON_MS / 1_000
        while not self.page.evaluate(f"(p => {condition})({_PLAYER_STATE})"):
            assert time.monotonic() < deadline, (condition, self.page.evaluate(_PLAYER_STATE))
            self.page.wait_for_timeout(_POLL_MS)

    def record(self) -> None:
        """Record what is heard from the next page on."""
        self.page.add_init_script(_RECORDER)

    def heard(self) -> Heard:
        """Return what was heard, at the rate of the taps, in steps of 16 bits."""
        self.page.wait_for_timeout(_HANDED_OVER_MS)  # the recorder hands over a second at a time
        sound: Heard = np.concatenate(self.page.evaluate("window.heard"))
        return np.round(sound * _FULL_SCALE)

    def grave_issues(self) -> list[str]:
        """Return what axe-core finds that keeps people out."""
        found = self.page.evaluate("axe.run().then((result) => result.violations)")
        return [
            f"{issue['id']}: {[node['target'] for node in issue['nodes']]}"
            for issue in found
            if issue["impact"] in _GRAVE
        ]

    def load_axe(self) -> None:
        """Bring axe-core into the page, as a debugger would."""
        spec = importlib.util.find_spec("axe_playwright_python")
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(f"{source}; undefined")

    def note(self, message: ConsoleMessage) -> None:
        """Remember what the console says that is no plain message."""
        if message.type in {"error", "warning"} and _OF_RECORDER not in message.text:
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield the browser; of a module, because its event loop is in the way of other tests."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: make test-tools installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> Screen:
    """Return what the browser is looked at with; a test may be parametrised with others."""
    chosen: Screen = getattr(request, "param", LAPTOP)
    return chosen


@pytest.fixture
def context(chromium: Browser, screen: Screen) -> Iterator[BrowserContext]:
    """Yield a fresh profile."""
    made = chromium.new_context(
        viewport={"width": screen.width, "height": screen.height},
        color_scheme=screen.scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    made.set_default_timeout(SOON_MS)
    yield made
    made.close()


@pytest.fixture
def tab(context: BrowserContext, drilldown: Drilldown) -> Iterator[Tab]:
    """Yield a tab of the browser; at the end its console must have been silent."""
    page = context.new_page()
    made = Tab(page, drilldown.address)
    page.on("console", made.note)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    yield made
    page.close()

    assert [] == made.complaints


def is_same(heard: Heard, wanted: Samples) -> bool:
    """Return whether sound is the same to one step of 16 bits: browsers round as they decode."""
    return len(heard) == len(wanted) and bool(np.all(np.abs(heard - wanted) <= 1))


def position(heard: Heard, wanted: Samples) -> int:
    """Return where a second of sound begins in what was heard."""
    loudest = int(np.argmax(np.abs(wanted)))
    for candidate in np.flatnonzero(np.abs(heard - wanted[loudest]) <= 1):
        begin = int(candidate) - loudest
        if begin >= 0 and is_same(heard[begin : begin + len(wanted)], wanted):
            return begin
    raise AssertionError("what was played was not heard")
