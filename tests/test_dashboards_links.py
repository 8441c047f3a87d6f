"""Addresses in boards and alerts against the drill-down page: each click ends at something."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from archiver.reader import reader
from archiver.web.assets import PAGES
from archiver.web.sound import OPERATIONS
from dashboards import links, queries_sql
from dashboards._compat import finish
from dashboards.annotations import Addresses
from dashboards.boards import all_boards
from dashboards.expansion import View, expand
from dashboards.model import PgTarget
from dashboards.provisioning import files
from tests.fix_drilldown import BAD, RATE, STATION, Drilldown

SOURCES = Path(__file__).parents[1] / "deploy/provisioning/grafana/datasources/monitoring.yaml"
PUBLIC = "http://drilldown.example"
_FILLED_IN = re.compile(r"\$*\{+[^{}]*\}+|\$\w+")


def strings(node: Any) -> Iterator[str]:
    """Yield every text of a document."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from strings(each)
    elif isinstance(node, str):
        yield node


def addresses() -> set[str]:
    """Return every path of the page that boards, alerts and data sources link to."""
    documents: list[Any] = [finish(board) for board in all_boards(PUBLIC).values()]
    documents += map(yaml.safe_load, files(Addresses(public_url=PUBLIC)).values())
    documents.append(yaml.safe_load(SOURCES.read_text("utf-8")))
    begins = (PUBLIC, "${public_url}", "${MONITORING_PUBLIC_URL}")
    found = set()
    for text in strings(documents):
        for begin in begins:
            if text.startswith(f"{begin}/"):
                path = _FILLED_IN.sub("x", text.removeprefix(begin))
                found.add(path.partition("?")[0].partition("#")[0])
    return found


def test_every_address_is_one_that_the_page_serves() -> None:
    """Boards, alerts and exemplars name no path that the drill-down does not have."""
    served = [*(page.path for page in PAGES), *(operation.path for operation in OPERATIONS)]
    patterns = [re.sub(r"\{\w+\}", "[^/]+", path.replace(".", r"\.")) for path in served]
    found = addresses()

    assert {"/go", "/call/x", "/knob/x", "/audio/x/x/PRE/x.wav"} <= found
    assert set() == {path for path in found if not any(re.fullmatch(p, path) for p in patterns)}


@pytest.fixture
def bad_call(drilldown: Drilldown) -> View:
    """Return what somebody sees who has chosen the spoiled call in the trace board."""
    start = drilldown.calls[BAD].start
    values = {"trace": (BAD,), "station": (STATION,), "public_url": (drilldown.address,)}
    return View(start - timedelta(minutes=1), start + timedelta(minutes=2), values)


def rows(drilldown: Drilldown, sql: str, view: View) -> list[dict[str, Any]]:
    """Return what a panel shows, row by row."""
    with reader(drilldown.settings.db) as archive:
        names, found = archive.columns(expand(PgTarget(sql), view))
    return [dict(zip(names, row, strict=True)) for row in found]


def clicked(address: str, drilldown: Drilldown, **fields: object) -> str:
    """Return the address of a link, its fields filled in."""
    address = address.replace("${public_url}", drilldown.address)
    for name, value in fields.items():
        address = address.replace(links.field(name), str(value))
    assert "$" not in address
    return address


def test_the_players_in_the_trace_board_play(drilldown: Drilldown, bad_call: View) -> None:
    """Each player in the table of five seconds has an address at which there are five seconds."""
    shown = rows(drilldown, queries_sql.buckets(), bad_call)
    players = [row[f"{tap} sound"] for row in shown for tap in ("PRE", "POST")]
    sources = [re.findall(r'src="([^"]+)"', player)[0] for player in players if player]

    assert len(sources) > len(shown)
    with drilldown.client() as client:
        for source in sources:
            answer = client.get(source)
            samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
            assert (200, RATE, 5 * RATE) == (answer.status_code, rate, len(samples))


def test_three_clicks_lead_from_a_red_point_to_the_sound(
    drilldown: Drilldown, bad_call: View
) -> None:
    """A point leads to the worst calls of its moment; the first one to its page, and that plays."""
    at = round(bad_call.end.timestamp())
    point = links.worst_calls(STATION, "pair.speech_lost_ratio", at=str(at))
    with drilldown.client() as client:
        first = client.get(clicked(point, drilldown))
        asked = clicked(point, drilldown).partition("?")[2]
        worst = client.get(f"/api/v1/worst?{asked}").json()["items"][0]
        place = {"station": worst["station_key"], "tap": worst["tap"]}
        page = links.call_page(worst["trace_id"], at=worst["bucket_ts"], **place)
        second = client.get(clicked(page, drilldown))
        began = datetime.fromisoformat(worst["bucket_ts"]).astimezone(UTC)
        sound = links.audio(
            worst["trace_id"],
            worst["station_key"],
            tap=worst["tap"],
            bucket_ms=str(round(began.timestamp() * 1_000)),
        )
        third = client.get(clicked(sound, drilldown))

    assert BAD == worst["trace_id"]
    assert [200, 200, 200] == [each.status_code for each in (first, second, third)]
    assert "audio/wav" == third.headers["content-type"]


def test_a_knob_change_leads_to_its_page(drilldown: Drilldown, bad_call: View) -> None:
    """The page of a change that the board of knobs lists is there, and knows the change."""
    values = {**bad_call.values, "around": ("12",), "knob": ("",)}
    view = View(bad_call.start, bad_call.end, values)
    change = rows(drilldown, queries_sql.verdicts(), view)[0]["change"]
    address = clicked(links.knob_page(links.field("change")), drilldown, change=change)
    with drilldown.client() as client:
        page = client.get(address)
        numbers = client.get(f"/api/v1/knob-events/{change}")

    assert [200, 200] == [page.status_code, numbers.status_code]
