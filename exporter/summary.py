"""From the closed taps of a station's bucket to what is archived: aggregates, pairs, health."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter.aggregates import COUNT, LAST, MAX, MIN, NONE, SUM, Aggregates
from exporter.analysis import hum, pairs
from exporter.analysis.activelevel import active_level
from exporter.analysis.analyzer import GATING_BLOCK
from exporter.analysis.borders import click_ratio
from exporter.analysis.integrated import Integrated
from exporter.health import Defects, Health, Weight, judge
from exporter.metrics import FRAME_METRICS
from exporter.model import BUCKET_SECONDS, Tap, TapBucket
from exporter.timeline import to_ns
from exporter.track import ClosedTap

GOOD_SNR_DB = 25.0
UNRELATED_BELOW = 0.2
UNRELATED_BUCKETS = 6
# Of less speech, unrelated audio correlates by chance: above 0.2 in one bucket of a hundred at 2 s.
ENOUGH_SPEECH_FRAMES = 100
_BITS, _CHANNELS = 16.0, 1.0
_CONTIGUOUS_S = 1.0

Values = dict[str, float]


@dataclass(slots=True)
class StationMemory:
    """What is remembered of a station in one trace from bucket to bucket.

    Attributes:
        integrated: Gating blocks of the loudness since the trace's start, by tap.
        delay: Last known lag of POST behind PRE in samples.
        weak: Buckets so far in which PRE and POST spoke and did not correlate.
        is_related: Whether they have ever correlated.
    """

    integrated: dict[Tap, Integrated] = field(
        default_factory=lambda: {tap: Integrated() for tap in Tap}
    )
    delay: float | None = None
    weak: int = 0
    is_related: bool = False

    @property
    def is_unrelated(self) -> bool:
        """Whether POST is other audio than PRE, so that comparing them says nothing."""
        return not self.is_related and self.weak >= UNRELATED_BUCKETS


def summarise(
    taps: Mapping[Tap, ClosedTap],
    memory: StationMemory,
    *,
    weights: Mapping[str, Weight],
    silence_dbfs: float,
    has_pairs: bool,
) -> tuple[TapBucket, ...]:
    """Sum up one bucket of one station.

    Args:
        taps: What was gathered, by tap.
        memory: Of the station; goes on from bucket to bucket.
        weights: Of the health score.
        silence_dbfs: Frames below are silent.
        has_pairs: Whether PRE is compared with POST in this bucket.
    """
    paired = NONE
    if has_pairs and len(taps) == len(Tap):
        paired = _compared(taps, memory, silence_dbfs)
    return tuple(
        _tap_bucket(closed, memory, paired if tap is Tap.POST else NONE, weights)
        for tap, closed in taps.items()
    )


def _tap_bucket(
    closed: ClosedTap,
    memory: StationMemory,
    paired: Aggregates,
    weights: Mapping[str, Weight],
) -> TapBucket:
    values = dict(_bucket_values(closed, memory.integrated[closed.tap]))
    of_frames = _of_frames(closed)
    health = _health(values, of_frames, paired, weights)
    values["health.audio_score"] = health.score
    of_bucket = Aggregates.of_values(values, closed.start_ns)
    aggregates = Aggregates.joined((of_bucket, of_frames, _of_notes(closed), paired))
    return to_tap_bucket(closed, aggregates, health.costs)


def to_tap_bucket(
    closed: ClosedTap, aggregates: Aggregates, health: Mapping[str, float]
) -> TapBucket:
    """Return what is archived of a tap: its sound, its gaps, and these numbers."""
    runs, gaps = closed.archived()
    return TapBucket(
        tap=closed.tap,
        rate=closed.rate,
        first_sample=closed.first_sample,
        due_samples=closed.due_samples,
        runs=runs,
        gaps=gaps,
        aggregates=aggregates,
        health=health,
    )


def _bucket_values(closed: ClosedTap, integrated: Integrated) -> Iterator[tuple[str, float]]:
    """Yield the metrics that have one value in a bucket; what is unknown is left out."""
    lost = sum(gap.samples for gap in closed.gaps if gap.cause.is_loss)
    yield "stream.frames", float(len(closed.rows))
    yield "stream.sample_rate", float(closed.rate)
    yield "stream.bit_depth", _BITS
    yield "stream.channel_count", _CHANNELS
    yield "pipe.frame_drop_ratio", lost / closed.due_samples
    integrated.add(closed.rows[:, GATING_BLOCK])
    measured = {
        "stream.pace": closed.pace,
        "advanced.lufs_integrated": integrated.value(),
        "advanced.dynamic_range": _dynamic_range(closed),
        "fft.hum_detected": _hum(closed),
        "fft.hiss_detected": _hiss(closed),
        **_of_speech(closed),
    }
    yield from ((key, value) for key, value in measured.items() if not math.isnan(value))


def _of_speech(closed: ClosedTap) -> Values:
    """Measure what needs to know where speech is."""
    known = ~np.isnan(closed.column("pcm.vad_probability"))
    if not known.any():
        return {}
    speech = closed.speech
    values = {"pcm.speech_ratio": float(speech.sum() / known.sum())}
    if speech.any():
        pcm = closed.samples()
        values["pcm.active_level_dbfs"] = active_level(pcm, closed.rate)[0]
        values["pipe.border_click_ratio"] = click_ratio(
            pcm, closed.borders, speech=closed.starts[speech], rate=closed.rate
        )
    return values


def _dynamic_range(closed: ClosedTap) -> float:
    level = closed.column("pcm.rms_dbfs")[closed.column("pcm.silence_detected") == 0]
    if not level.size:
        return math.nan
    level.sort()
    return _percentile(level, 95) - _percentile(level, 10)


def _percentile(rising: npt.NDArray[np.float64], percent: float) -> float:
    """Return a percentile of sorted values, linear between them, faster than numpy's."""
    place = (len(rising) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(rising) - 1)
    return float(rising[below] + (place - below) * (rising[above] - rising[below]))


def _hum(closed: ClosedTap) -> float:
    """Look for hum in the longest stretch without a gap."""
    longest = max(closed.runs, key=lambda run: run.samples, default=None)
    if longest is None or longest.samples < _CONTIGUOUS_S * closed.rate:
        return math.nan
    if np.isnan(closed.column("fft.low_band_energy")).all():
        return math.nan  # the spectrum is switched off
    return hum.hum(np.frombuffer(longest.pcm, "<i2"), closed.rate)


def _hiss(closed: ClosedTap) -> float:
    return hum.hiss(
        closed.column("pcm.rms_dbfs"),
        closed.column("fft.spectral_flatness"),
        closed.column("fft.high_band_energy"),
        closed.speech,
    )


def _compared(
    taps: Mapping[Tap, ClosedTap], memory: StationMemory, silence_dbfs: float
) -> Aggregates:
    """Compare PRE with POST, unless they are found to have nothing in common."""
    if memory.is_unrelated:
        return NONE
    pre, post = taps[Tap.PRE], taps[Tap.POST]
    found = pairs.compare(
        _side(pre), _side(post), pre.rate, silence_dbfs=silence_dbfs, known_delay=memory.delay
    )
    has_said_enough = min(pre.speech.sum(), post.speech.sum()) >= ENOUGH_SPEECH_FRAMES
    if found.correlation is not None and has_said_enough:
        memory.is_related |= found.correlation >= UNRELATED_BELOW
        memory.weak += found.correlation < UNRELATED_BELOW
    if found.delay_samples is not None:
        memory.delay = found.delay_samples
    return Aggregates.joined(
        (
            Aggregates.of_series(found.frames, pre.start_ns),
            Aggregates.of_values(found.bucket, pre.start_ns),
        )
    )


def _side(closed: ClosedTap) -> pairs.Side:
    return pairs.Side(
        pcm=closed.samples(),
        ranges=tuple((run.first_sample, run.first_sample + run.samples) for run in closed.runs),
        starts=closed.starts,
        speech=closed.speech,
        rms_dbfs=closed.column("pcm.rms_dbfs"),
        momentary=closed.column("advanced.lufs_momentary"),
    )


def _health(
    values: Values,
    of_frames: Aggregates,
    paired: Aggregates,
    weights: Mapping[str, Weight],
) -> Health:
    snr, muted, frozen = map(
        of_frames.mean_of, ("pcm.snr_estimate", "pcm.muted_signal", "pcm.frozen_signal")
    )
    added = paired.mean_of("pair.added_silence_ratio")
    return judge(
        Defects(
            clipping=of_frames.mean_of("pcm.clipping_ratio"),
            limiting=paired.mean_of("pair.limited_ratio"),
            noise=None if snr is None else GOOD_SNR_DB - snr,
            mute=muted if added is None else added,
            freeze=None if frozen is None or muted is None else frozen - muted,
            loss=values["pipe.frame_drop_ratio"],
            lost_speech=paired.mean_of("pair.speech_lost_ratio"),
        ),
        weights,
    )


def _of_notes(closed: ClosedTap) -> Aggregates:
    noted = closed.notes.values()
    # Of few numbers: making arrays of them would take longer than reading them.
    rows = [(len(v), min(v), max(v), sum(v), v[-1]) for v, _ in noted]
    times = [to_ns(position, closed.rate) for _, position in noted]
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Aggregates(tuple(closed.notes), table, np.array(times, np.int64))


def _of_frames(closed: ClosedTap) -> Aggregates:
    """Aggregate the columns of frame measurements; a column without a value has no aggregate."""
    frames = len(closed.rows)
    if not frames:
        return NONE
    # A metric's values side by side: reductions along rows are several times as fast.
    columns = closed.rows[:, : len(FRAME_METRICS)].T.copy()
    unknown = np.isnan(columns)
    table = np.empty((len(columns), 5))
    table[:, COUNT] = frames - unknown.view(np.uint8).sum(axis=1, dtype=np.uint16)
    # fmin and fmax pass over NaN.
    table[:, MIN], table[:, MAX] = np.fmin.reduce(columns, axis=1), np.fmax.reduce(columns, axis=1)
    newest = frames - 1 - unknown[:, ::-1].argmin(axis=1)
    table[:, LAST] = columns[np.arange(len(columns)), newest]
    columns[unknown] = 0.0
    table[:, SUM] = columns.sum(axis=1)
    there = np.flatnonzero(table[:, COUNT])
    keys = [FRAME_METRICS[column].key for column in there.tolist()]
    base = closed.start_ns // (BUCKET_SECONDS * 10**9) * BUCKET_SECONDS * closed.rate
    last_ns = to_ns(base + int(closed.starts[-1]), closed.rate)
    return Aggregates(keys, table[there], np.full(len(keys), last_ns))
