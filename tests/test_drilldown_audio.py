"""Sound over HTTP is what was heard, to the sample, and nothing else on this machine."""

from __future__ import annotations

import io
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import soundfile
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from archiver.deletion.retention import Retention
from archiver.times import BUCKET
from exporter.selfmetrics import Tally
from tests.fix_drilldown import (
    BAD,
    RATE,
    SECONDS,
    SMALL,
    STALLED_AT_S,
    STARTS_IN_BUCKET,
    STATION,
    Drilldown,
    Small,
    served,
)

HEAD = 44
CANARY = b"canary of a file that nobody may read"
Samples = npt.NDArray[np.int16]


def decoded(body: bytes) -> Samples:
    """Return the samples of a WAV or FLAC file."""
    samples, rate = soundfile.read(io.BytesIO(body), dtype="int16")
    assert RATE == rate
    return np.asarray(samples)


@pytest.fixture
def base(small: Small) -> str:
    """Return the path of a small call's station."""
    return f"/audio/{SMALL}/{STATION}"


def test_a_downloaded_clip_is_what_was_fed(drilldown: Drilldown) -> None:
    """PRE of the spoiled call over eight seconds, the stall in it, equals what the station got."""
    call = drilldown.calls[BAD]
    first_s, last_s = STALLED_AT_S - 3.25, STALLED_AT_S + 4.75
    ends = [call.start + timedelta(seconds=seconds) for seconds in (first_s, last_s)]
    span = {"from": ends[0].isoformat(), "to": ends[1].isoformat(), "download": "1"}

    with drilldown.client() as client:
        answer = client.get(f"/audio/{BAD}/{STATION}/PRE.wav", params=span)

    assert 200 == answer.status_code
    fed = call.fed[round(first_s * RATE) : round(last_s * RATE)]
    assert np.array_equal(fed, decoded(answer.content))
    assert not fed[3_25 * RATE // 100 : 4_25 * RATE // 100].any()
    assert f'filename="{BAD}_{STATION}_PRE_' in answer.headers["content-disposition"]


def test_without_a_time_it_is_all_of_the_call(drilldown: Drilldown) -> None:
    """From the first bucket to the last, with silence where the call had not begun."""
    call = drilldown.calls[BAD]
    with drilldown.client() as client:
        answer = client.get(f"/audio/{BAD}/{STATION}/PRE.wav")
    heard = decoded(answer.content)

    begin = round(STARTS_IN_BUCKET.total_seconds() * RATE)
    assert np.array_equal(call.fed, heard[begin : begin + len(call.fed)])
    assert not heard[:begin].any()
    assert 0 == len(heard) % (5 * RATE)
    assert SECONDS * RATE >= len(call.fed)


def test_a_segment_says_what_it_is(small: Small) -> None:
    """A bucket is exactly its five seconds, with headers for call, station, tap, time and rate."""
    answer = small.client.get(small.path("POST", 1))

    assert np.array_equal(small.post[5 * RATE : 10 * RATE], decoded(answer.content))
    said = [answer.headers[f"x-{name}"] for name in ("trace-id", "station", "tap", "sample-rate")]
    assert [SMALL, STATION, "POST", "16000"] == said
    at = small.start + BUCKET
    assert f"{at:%Y-%m-%dT%H:%M:%SZ}" == answer.headers["x-bucket"]
    assert "audio/wav" == answer.headers["content-type"]


@pytest.mark.parametrize("tap", ["PRE", "POST"])
def test_a_range_crosses_segments_and_gaps(small: Small, base: str, tap: str) -> None:
    """From the middle of a bucket over one without sound to another: silence of its true length."""
    fed = small.pre if tap == "PRE" else small.post
    since = f"{small.start + timedelta(seconds=2.5):%Y-%m-%dT%H:%M:%S.%fZ}"
    for ending in ("wav", "flac"):
        answer = small.client.get(f"{base}/{tap}.{ending}", params=small.span(2.5, 17.00625))

        assert np.array_equal(fed[40_000:272_100], decoded(answer.content))
        assert str(len(answer.content)) == answer.headers["content-length"]
        assert since == answer.headers["x-from"]


def test_parts_of_a_file_are_its_bytes(small: Small, base: str) -> None:
    """Every kind of byte range, odd borders and the head in it, is 206 and right to the byte."""
    address, span = f"{base}/PRE.wav", small.span(3.0, 16.0)
    whole = small.client.get(address, params=span).content
    size = len(whole)
    assert HEAD + 13 * RATE * 2 == size
    for first, last in [(0, 0), (0, 1), (10, 50), (43, 44), (45, 46), (1_001, 400_002), (44, size)]:
        header = {"Range": f"bytes={first}-{last}"}
        answer = small.client.get(address, params=span, headers=header)

        assert 206 == answer.status_code
        assert whole[first : last + 1] == answer.content
        shown = f"bytes {first}-{min(last, size - 1)}/{size}"
        assert shown == answer.headers["content-range"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("bytes=-100", 206),
        ("bytes=100-", 206),
        ("bytes=160044-", 416),
        ("bytes=-0", 416),
        ("bytes=5-4", 200),
        ("bytes=0-1,5-6", 200),
        ("chapters=1-2", 200),
        ("bytes=-", 200),
    ],
)
def test_odd_ranges_are_answered_by_the_standard(small: Small, header: str, status: int) -> None:
    """Suffixes and open ends are parts, what lies outside is 416, what is no range is the file."""
    answer = small.client.get(small.path("PRE"), headers={"Range": header})

    assert status == answer.status_code
    if status == 416:
        assert "bytes */160044" == answer.headers["content-range"]


def test_a_part_of_a_file_that_has_changed_is_the_whole(small: Small) -> None:
    """If-Range with the tag of this file gives the part, with any other tag everything."""
    tag = small.client.get(small.path("PRE")).headers["etag"]
    for given, status in ((tag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": given}

        assert status == small.client.get(small.path("PRE"), headers=headers).status_code


def test_head_tells_the_size_and_sends_nothing(small: Small, base: str) -> None:
    """HEAD has the headers of GET and writes no access log."""
    for path in (small.path("PRE"), f"{base}/PRE.flac"):
        answer = small.client.head(path)

        assert (200, b"") == (answer.status_code, answer.content)
    assert [(0,)] == small.query("SELECT count(*) FROM audio_access")


def test_the_difference_is_what_the_station_took_away(small: Small, base: str) -> None:
    """POST that is PRE, louder, later and upside down leaves nothing; without it PRE is left."""
    aligned = small.client.get(f"{base}/delta.wav", params=small.span(1, 9))
    small.run("DELETE FROM metrics_agg_5s WHERE metric_key LIKE 'pair.%'")
    plain = small.client.get(f"{base}/delta.wav", params=small.span(1, 9))

    assert np.abs(decoded(aligned.content)).max() <= 1
    part = slice(RATE, 9 * RATE)
    expected = small.pre[part].astype(int) - small.post[part]
    assert np.array_equal(expected.clip(-32_768, 32_767), decoded(plain.content))
    assert "DELTA" == aligned.headers["x-tap"]


def test_the_difference_follows_parts_of_a_sample(small: Small, base: str) -> None:
    """A delay between two samples is interpolated: a tone is gone by 40 dB and more."""
    at = np.arange(5 * RATE) / RATE
    shift = 3.4 / RATE
    for tap, delay in (("PRE", 0.0), ("POST", shift)):
        tone = np.rint(8_000 * np.sin(2 * np.pi * 1_000 * (at - delay))).astype("<i2")
        (path,) = small.settings.audio_path.rglob(f"{tap}/segment_{_ms(small)}.wav")
        path.write_bytes(path.read_bytes()[:HEAD] + tone.tobytes())
    small.run(
        f"UPDATE metrics_agg_5s SET avg = CASE metric_key WHEN 'pair.delay_ms' THEN {shift * 1_000}"
        " ELSE 0 END WHERE metric_key LIKE 'pair.%'"
    )

    left = decoded(small.client.get(f"{base}/delta.wav", params=small.span(1, 4)).content)

    assert np.abs(left).max() < 80


def _ms(small: Small) -> int:
    return int(small.start.timestamp() * 1_000)


def peaks(small: Small, **parameters: object) -> tuple[npt.NDArray[np.int8], httpx.Headers]:
    """Ask for peaks; return pairs of shape (columns, 2) and the headers."""
    path = f"/api/v1/traces/{SMALL}/peaks"
    answer = small.client.get(path, params={"station": STATION, **parameters})
    assert 200 == answer.status_code
    return np.frombuffer(answer.content, np.int8).reshape(-1, 2), answer.headers


@pytest.mark.parametrize(("last_s", "columns"), [(20, 40), (20, 1_000), (1, 200)])
def test_peaks_are_the_extremes(small: Small, last_s: int, columns: int) -> None:
    """Each column has the smallest and largest sample of its time, coarse, exact and fine."""
    found, headers = peaks(small, tap="PRE", columns=columns, **small.span(0, last_s))

    groups = small.pre[: last_s * RATE].reshape(columns, -1) >> 8
    expected = np.stack((groups.min(axis=1), groups.max(axis=1)), axis=1)
    expected[[0.5 <= (n + 0.5) * last_s / columns / 5 - 1.5 < 1.5 for n in range(columns)]] = (
        127,
        -128,
    )
    assert np.array_equal(expected, found)
    assert (str(columns), "16000") == (headers["x-columns"], headers["x-rate"])


def test_a_spectrogram_shows_a_tone_where_it_is(small: Small) -> None:
    """A tone of half full scale at 1 kHz is in its row, at its level; silence is 0."""
    at = np.arange(5 * RATE) / RATE
    tone = np.rint(16_384 * np.sin(2 * np.pi * 1_000 * at)).astype("<i2")
    (path,) = small.settings.audio_path.rglob(f"PRE/segment_{_ms(small)}.wav")
    path.write_bytes(path.read_bytes()[:HEAD] + tone.tobytes())
    parameters = {"station": STATION, "tap": "PRE", "columns": 40, "rows": 128}

    answer = small.client.get(
        f"/api/v1/traces/{SMALL}/spectrogram", params={**parameters, **small.span(0, 20)}
    )

    picture = np.frombuffer(answer.content, np.uint8).reshape(128, 40)
    assert 16 == picture[:, 5].argmax()
    # The window spreads it over three bins of 31.25 Hz, of which a row has two.
    assert picture[15:17, 5].max() == pytest.approx(255 * (1 - 9.03 / 100), abs=8)
    assert not picture[:, 20:30].any()
    assert "8000" == answer.headers["x-max-hertz"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/audio/nobody/{STATION}/PRE.wav", 404),
        (f"/audio/{SMALL}/nowhere/PRE.wav", 404),
        (f"/audio/{SMALL}/{STATION}/MIDDLE.wav", 404),
        (f"/audio/{SMALL}/{STATION}/PRE/1767225600001.wav", 404),
        (f"/audio/{SMALL}/{STATION}/PRE/1767225600000.wav", 410),
        (f"/audio/{SMALL}/{STATION}/PRE.wav?from=2026-01-01&to=2026-01-02", 400),
        (f"/audio/{SMALL}/{STATION}/PRE.wav?from=2026-01-02&to=2026-01-01", 400),
        (f"/audio/{SMALL}/{STATION}/PRE.wav?from=yesterday", 400),
        (f"/audio/{SMALL}/{STATION}/PRE.wav?download=2", 400),
        (f"/api/v1/traces/{SMALL}/peaks?tap=PRE", 400),
    ],
)
def test_what_is_not_there_is_told_apart(small: Small, path: str, status: int) -> None:
    """Unknown is 404, too old is 410, nonsense is 400; each says why as problem+json."""
    answer = small.client.get(path)

    assert status == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
    assert status == answer.json()["status"]


def test_a_rate_that_changes_is_refused_with_the_reason(small: Small, base: str) -> None:
    """One file has one rate: a time with two is 409, each part of it is served."""
    small.run(
        f"UPDATE audio_segments_5s SET sample_rate_hz = 8000 WHERE bucket_ts > '{small.start}'"
    )

    assert 409 == small.client.get(f"{base}/PRE.wav").status_code
    assert 200 == small.client.get(f"{base}/PRE.wav", params=small.span(0, 5)).status_code


def hostile_names(count: int, seed: int) -> Iterator[str]:
    """Yield paths that try to leave the audio root, or to break something."""
    chance = random.Random(seed)  # noqa: S311 - reproducible nonsense, not a secret
    pieces = [
        *("..", ".", "", "/", "//", "\\", "..\\", "%2e%2e", "%2f", "%00", "\0", "\x7f", "~"),
        *("secret.wav", "etc/passwd", "PRE", "POST", "delta", "PRE.wav", "1767225600000.wav"),
        *(
            SMALL,
            STATION,
            "audio",
            "static",
            "api/v1/traces",
            "link",
            "a" * 300,
            "\u202e",
            "\ud800",
        ),
        *("'; DROP TABLE traces; --", "${jndi:x}", "<script>", "\r\nX-Evil: 1", "C:", "file://"),
    ]
    for _ in range(count):
        start = chance.choice(["/audio/", "/static/", "/api/v1/traces/", "/call/", "/"])
        parts = (chance.choice(pieces) for _ in range(chance.randint(1, 6)))
        yield start + chance.choice(["/", "", "%2f"]).join(parts)


def ask(small: Small, path: str) -> tuple[int, bytes]:
    """Ask for a path; what no address can hold is percent-encoded, the rest left alone."""
    return small.client.raw(quote(path, safe="/%", errors="surrogatepass").encode())


def test_ten_thousand_hostile_paths_reach_no_file(small: Small) -> None:
    """Whatever a client or a row names: no byte from outside the audio root, and no 5xx."""
    root = small.settings.audio_path
    (root.parent / "secret.wav").write_bytes(CANARY)
    (root / "link").symlink_to(root.parent)
    wanted = ["../secret.wav", "link/secret.wav", str(root.parent / "secret.wav"), "/etc/passwd"]
    paths = [*wanted, "", ".", "..", "a" * 300, "link", f"{SMALL}\n", "no/such/file", "%2e%2e/x"]
    for number, path in enumerate(paths):
        small.run(
            "INSERT INTO audio_segments_5s SELECT trace_id, station_key, 'PRE', "
            f"bucket_ts, 5000, 16000, 1, format, '{path}', 0, 80000, 80000, 160044, sha256, now() "
            f"FROM audio_segments_5s WHERE tap = 'PRE' LIMIT 1 ON CONFLICT DO NOTHING; "
            f"UPDATE audio_segments_5s SET file_path = '{path}' WHERE tap = 'PRE' "
            f"AND bucket_ts = '{small.start + (number % 2) * BUCKET}'"
        )
        for each in (0, 1):
            status, body = ask(small, small.path("PRE", each))
            assert CANARY not in body
            assert status in {200, 410}
    assert 410 == ask(small, small.path("PRE", 1))[0]

    found: Counter[int] = Counter()
    for path in hostile_names(10_000, seed=20_260_103):
        status, body = ask(small, path)
        found[status] += 1
        assert CANARY not in body, path
        assert status < 500, path

    assert 10_000 == found.total()


def test_retention_that_races_a_listener_is_gone_never_an_error(small: Small) -> None:
    """While retention deletes what is being asked for: whole answers, then 410, nothing else."""
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def listen(address: str, number: int) -> None:
        targets = [small.path("PRE", number), f"/audio/{SMALL}/{STATION}/POST.wav"]
        with httpx.Client(base_url=address, timeout=30) as client:
            while not stop.is_set():
                for target in targets:
                    # A range whose files go while it is sent ends early.
                    with suppress(httpx.RemoteProtocolError):
                        params = small.span(0, 20) if target.endswith("POST.wav") else {}
                        statuses[client.get(target, params=params).status_code] += 1

    later = small.start + timedelta(hours=small.settings.retention_hours + 2)
    with served(small.settings) as address:
        threads = [threading.Thread(target=listen, args=(address, n)) for n in (0, 1, 3)]
        for thread in threads:
            thread.start()
        try:
            while statuses[200] < 20:
                stop.wait(0.01)
            Retention(small.settings, Tally()).run(small.settings.audio_path, later)
            while statuses[404] + statuses[410] < 20:
                stop.wait(0.01)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    assert {200, 404, 410} >= set(statuses)


def test_a_file_that_went_without_its_row_is_gone(small: Small, base: str) -> None:
    """Segment, range, FLAC, difference and pictures of a deleted file are 410, and not logged."""
    (file,) = small.settings.audio_path.rglob(f"PRE/segment_{_ms(small)}.wav")
    file.unlink()
    picture = f"/api/v1/traces/{SMALL}/spectrogram?station={STATION}&tap=PRE"
    sounds = [f"{base}/{name}" for name in ("PRE.wav", "PRE.flac", "delta.wav")]
    for path in (small.path("PRE"), *sounds, picture):
        assert 410 == small.client.get(path).status_code
    assert [(0,)] == small.query("SELECT count(*) FROM audio_access")


def test_a_database_that_is_away_is_503(small: Small) -> None:
    """Without its database the page says so, for sound and for numbers, and recovers by itself."""
    name = str(conninfo_to_dict(small.settings.db)["dbname"])
    paths = (small.path("PRE"), "/api/v1/status")
    with psycopg.connect(make_conninfo(small.settings.db, dbname="postgres")) as connection:
        connection.autocommit = True
        for is_open, status in ((True, 200), (False, 503), (True, 200)):
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {is_open}".encode())
            connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

            assert [status] * 2 == [small.client.get(path).status_code for path in paths]
