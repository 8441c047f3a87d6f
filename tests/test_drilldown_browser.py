"""The pages of the drill-down in a real browser: looked for, clicked, heard, downloaded."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from archiver.times import BUCKET, bucket_start
from tests.fix_browser import AT_NIGHT, LAPTOP, PHONE, Tab, is_same, position
from tests.fix_drilldown import BAD, GOOD, RATE, STATION, TURNED_AT_S, Drilldown, Samples

FRAME_S = 0.05
SCREENS = {"laptop": LAPTOP, "night": AT_NIGHT, "phone": PHONE}
PAGES = {
    "calls": "/",
    "no call": "/?q=nothing-has-this-name",
    "call": f"/call/{BAD}",
    "worst": f"/go?station={STATION}&metric=health.audio_score",
    "knob": "/knob/{event_id}",
    "now": "/now",
    "login": "/login",
}


def test_the_worst_call_is_found_and_opened_at_its_worst_moment(
    tab: Tab, drilldown: Drilldown
) -> None:
    """Sorted by worst, the spoiled call stands first, and one click leads to its worst bucket."""
    worst = worst_bucket(drilldown)
    tab.open("/")

    tab.page.get_by_role("button", name="Worst moment").click()
    first = tab.page.locator("#calls tr").first
    expect(first).to_have_attribute("data-trace", BAD)
    first.get_by_role("link", name=re.compile("Worst moment")).click()
    tab.page.wait_for_selector("#player", state="visible")

    assert worst == tab.moment
    expect(tab.page.locator("#bucket-title")).to_contain_text(clock(worst))


def test_search_narrows_the_list_and_an_empty_one_says_what_to_do(tab: Tab) -> None:
    """Text of a trace id leaves its call; text of none leaves advice, and the address keeps it."""
    tab.open("/")
    rows = tab.page.locator("#calls tr")
    expect(rows).to_have_count(2)

    tab.page.get_by_role("searchbox").fill(GOOD)
    expect(rows).to_have_count(1)
    tab.page.get_by_role("searchbox").fill("nothing-has-this-name")

    expect(tab.page.get_by_role("heading", name="No call fits")).to_be_visible()
    assert "q=nothing-has-this-name" in tab.page.url


def test_the_list_is_walked_with_the_keyboard(tab: Tab) -> None:
    """Arrow down goes to the first and then to the second call; Enter opens it."""
    tab.open("/")

    tab.press("ArrowDown", "ArrowDown", "Enter")
    tab.page.wait_for_url(re.compile(f"/call/{GOOD}"))

    expect(tab.page.get_by_role("heading", level=1)).to_have_text("3333 \N{RIGHTWARDS ARROW} 4444")


def test_pre_plays_and_post_takes_over_in_the_middle(tab: Tab) -> None:
    """Switching changes the tap and nothing else: it goes on playing, and time goes on."""
    tab.open_call(BAD)
    tab.press("a", " ")
    tab.wait_for_player("p.state === 'playing'")
    begun = tab.moment
    tab.wait_for_player(f"p.time > {begun + 0.5}")

    tab.press("b")
    switched = tab.moment
    tab.wait_for_player(f"p.time > {switched + 0.5}")

    assert ("playing", "POST") == (tab.player("state"), tab.player("tap"))
    expect(tab.page.get_by_role("button", name="POST")).to_have_attribute("aria-pressed", "true")
    expect(tab.page.locator("#announcer")).to_have_text("Playing POST")
    tab.press(" ")
    assert "paused" == tab.player("state")


def test_what_is_heard_is_what_the_taps_heard_in_step(tab: Tab, drilldown: Drilldown) -> None:
    """The loudspeaker gets the samples of PRE, and those of POST from the next sample on."""
    start = first_whole_bucket(drilldown, BAD)
    taps = {tap: recorded(drilldown, BAD, tap, start) for tap in ("PRE", "POST")}
    tab.record()
    tab.open_call(BAD, f"#t={start + 1}&tap=PRE")

    tab.press(" ")
    tab.wait_for_player(f"p.time > {start + 3}")
    tab.press("b")
    switched = tab.moment
    tab.wait_for_player(f"p.time > {switched + 1}")
    tab.press(" ")
    heard = tab.heard()

    at = position(heard, taps["PRE"][RATE : 2 * RATE])
    step = round(FRAME_S * RATE)
    which = []
    for offset in range(0, round((switched + 0.5 - start - 1) * RATE), step):
        piece = heard[at + offset : at + offset + step]
        same = [tap for tap in taps if is_same(piece, taps[tap][RATE + offset :][:step])]
        which.append(same[0] if same else "fading")
    assert ["PRE", "fading", "POST"] == list(dict.fromkeys(which))
    assert which.count("fading") <= 2


def test_keys_jump_by_seconds_buckets_and_marks(tab: Tab, drilldown: Drilldown) -> None:
    """Right is one second, with shift the next bucket, and ] a bad bucket or a turned knob."""
    start = first_whole_bucket(drilldown, BAD)
    turned = drilldown.calls[BAD].start.timestamp() + TURNED_AT_S
    tab.open_call(BAD, f"#t={start + 0.5}")

    moments = []
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft", "ArrowLeft", "]", "]"):
        tab.press(key)
        moments.append(tab.moment)

    steps = [start + 1.5, start + 5, start, start - 1]
    assert pytest.approx([*steps, start + 5, turned], abs=0.02) == moments


def test_a_link_reopens_the_moment_station_and_tap(tab: Tab, drilldown: Drilldown) -> None:
    """The address follows the player, and the copied link opens the same moment and tap."""
    start = first_whole_bucket(drilldown, BAD)
    tab.open_call(BAD, f"#t={start + 2.25}&station={STATION}&tap=PRE")
    assert (start + 2.25, "PRE") == (tab.moment, tab.player("tap"))

    tab.press("ArrowRight", "b", "c")
    expect(tab.page.get_by_role("button", name="Copied")).to_be_visible()
    link = tab.page.evaluate("navigator.clipboard.readText()")
    tab.open("/now")
    tab.page.goto(link)
    tab.page.wait_for_selector("#player", state="visible")

    assert (start + 3.25, "POST") == (tab.moment, tab.player("tap"))
    assert f"station={STATION}&tap=POST" in link


def test_the_downloaded_clip_is_what_was_fed_to_the_tap(tab: Tab, drilldown: Drilldown) -> None:
    """The file of a bucket at PRE holds exactly the samples that the host handed over."""
    call = drilldown.calls[GOOD]
    start = first_whole_bucket(drilldown, GOOD)
    first = round((start - call.start.timestamp()) * RATE)
    tab.open_call(GOOD, f"#t={start + 1}&tap=PRE")

    with tab.page.expect_download() as info:
        tab.page.get_by_role("link", name="Download").click()
    samples, rate = soundfile.read(info.value.path(), dtype="int16")

    assert RATE == rate
    assert np.array_equal(call.fed[first : first + 5 * RATE], samples)
    assert re.search(r"PRE.*\.wav$", info.value.suggested_filename)


def test_a_drag_plays_a_stretch_and_stops_at_its_end(tab: Tab) -> None:
    """The selection is played once, the playhead returns, and Escape gives the selection up."""
    tab.open_call(BAD)
    box = tab.page.locator("[data-lane=wave-POST]").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    tab.page.mouse.move(box["x"] + 200, y)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 225, y, steps=5)
    tab.page.mouse.up()

    tab.wait_for_player("p.state === 'playing'")
    expect(tab.page.locator(".selection")).to_be_visible()
    tab.wait_for_player("p.state === 'paused'")
    tab.page.wait_for_url(re.compile("&end="))

    tab.press("Escape")
    expect(tab.page.locator(".selection")).to_be_hidden()


def test_matched_levels_and_delta_are_one_key_away(tab: Tab) -> None:
    """M matches the levels and d plays what the station took away, both while it plays."""
    tab.open_call(BAD)
    tab.press(" ")
    tab.wait_for_player("p.state === 'playing'")

    tab.press("m", "d")
    tab.wait_for_player("p.state === 'playing' && p.tap === 'DELTA'")

    assert "true" == tab.player("matched")


def test_zoom_fetches_a_finer_picture_and_tracks_can_be_added(tab: Tab) -> None:
    """Zooming in asks for the shorter stretch, and a chosen metric gets a track and a column."""
    tab.open_call(BAD)
    whole = tab.page.locator("#view-range").inner_text()

    with tab.page.expect_response(re.compile("/peaks")):
        tab.press("+", "+")
    tab.page.locator("#add-track").select_option("health.audio_score")
    tab.page.get_by_text("The tracks as a table").click()

    assert whole != tab.page.locator("#view-range").inner_text()
    expect(tab.page.get_by_role("columnheader", name="health score POST")).to_be_visible()
    tab.page.get_by_role("button", name="Remove the track health.audio_score").click()
    expect(tab.page.get_by_role("columnheader", name="health score POST")).to_be_hidden()


def test_the_bucket_panel_says_what_cost_points_and_what_was_turned(tab: Tab) -> None:
    """At the worst bucket the panel names the lost audio, the gap and the knobs in force."""
    tab.open_call(BAD)
    tab.page.locator("#facts a").click()

    panel = tab.page.get_by_role("complementary")
    expect(panel).to_contain_text("loss \N{MINUS SIGN}")
    expect(panel).to_contain_text("not received (loss)")
    expect(panel.get_by_role("row", name="pcm.input_gain_db 24")).to_be_visible()


def test_an_alert_leads_to_a_sound_and_to_its_call(tab: Tab, drilldown: Drilldown) -> None:
    """On /go the worst bucket stands first, plays at once, and its link opens that moment."""
    tab.open(PAGES["worst"])
    first = tab.page.locator("#go-list li").first

    first.get_by_role("button", name=re.compile("^Play")).click()
    expect(first.get_by_role("group")).to_have_attribute("data-state", "playing")
    first.get_by_role("button", name="PRE").click()
    expect(first.get_by_role("group")).to_have_attribute("data-tap", "PRE")
    first.get_by_role("link").click()
    tab.page.wait_for_selector("#player", state="visible")

    assert worst_bucket(drilldown) == tab.moment


def test_a_knob_change_is_heard_before_and_after(tab: Tab, drilldown: Drilldown) -> None:
    """Keys 1 and 2 alternate between before and after, and the table shows what it did."""
    tab.open(f"/knob/{event_id(drilldown)}")
    player = tab.page.locator(".inline-player")

    for key, stretch in (("1", "before"), ("2", "after")):
        tab.press(key)
        expect(player).to_have_attribute("data-state", "playing")
        expect(player).to_have_attribute("data-stretch", stretch)

    expect(tab.page.get_by_role("row", name=re.compile("clipping ratio"))).to_have_count(2)


def test_a_wrong_token_is_answered_in_words(tab: Tab) -> None:
    """A token that nobody made is refused with a sentence, and the page stays."""
    tab.open("/login")

    tab.page.get_by_label("Token").fill("nobody-made-this")
    tab.page.get_by_role("button", name="Log in").click()

    expect(tab.page.get_by_role("alert")).to_contain_text("not known")
    assert ["401 (Unauthorized)" in complaint for complaint in tab.complaints] == [True]
    tab.complaints.clear()


@pytest.mark.parametrize("screen", SCREENS.values(), indirect=True, ids=SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_people_out(tab: Tab, drilldown: Drilldown, name: str) -> None:
    """axe-core finds no serious issue on any page, and no page is wider than its screen."""
    tab.open(PAGES[name].format(event_id=event_id(drilldown)))
    for summary in tab.page.locator("main details > summary:visible").all():
        summary.click()
    tab.load_axe()

    assert [] == tab.grave_issues()
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def worst_bucket(drilldown: Drilldown) -> float:
    """Return the start of the bucket with the lowest score of the spoiled call."""
    with drilldown.client() as client:
        worst = client.get(f"/api/v1/traces/{BAD}").json()["worst"]
    return datetime.fromisoformat(worst["bucket_ts"]).timestamp()


def event_id(drilldown: Drilldown) -> str:
    """Return the id of one of the knob changes of the spoiled call."""
    with drilldown.client() as client:
        items = client.get(f"/api/v1/traces/{BAD}/knob-events").json()["items"]
    return str(items[0]["event_id"])


def first_whole_bucket(drilldown: Drilldown, trace_id: str) -> float:
    """Return the start of the first bucket that is full of sound."""
    return (bucket_start(drilldown.calls[trace_id].start) + BUCKET).timestamp()


def clock(t: float) -> str:
    """Return the time of day in UTC as the pages show it."""
    return f"{datetime.fromtimestamp(t, UTC):%H:%M:%S}"


def recorded(drilldown: Drilldown, trace_id: str, tap: str, start: float) -> Samples:
    """Return the samples of ten seconds of a tap, read from its segments."""
    folder = drilldown.settings.audio_path
    names = [f"segment_{round((start + 5 * number) * 1_000)}.wav" for number in (0, 1)]
    paths = [next(folder.glob(f"*/{trace_id}/{STATION}/{tap}/{name}")) for name in names]
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
