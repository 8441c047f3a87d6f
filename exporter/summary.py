"""From the closed taps of a station's bucket to what is archived: aggregates, pairs, health."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import numpy.typing as npt

from exporter.aggregates import COUNT, NONE, SUM, Aggregates
from exporter.analysis import hum, pairs
from exporter.analysis.activelevel import active_level
from exporter.analysis.analyzer import GATING_BLOCK
from exporter.analysis.borders import click_ratio
from exporter.analysis.columns import aggregated, aggregated_series
from exporter.analysis.frames import Matrix
from exporter.analysis.integrated import Integrated
from exporter.closed import ClosedTap, Offsets
from exporter.health import Defects, Health, Weight, judge
from exporter.metrics import COLUMNS, FRAME_METRICS
from exporter.model import BUCKET_NS, BUCKET_SECONDS, Tap, TapBucket
from exporter.timeline import to_ns

GOOD_SNR_DB = 25.0
UNRELATED_BELOW = 0.2
UNRELATED_BUCKETS = 6
# Of less speech, unrelated audio correlates by chance: above 0.2 in one bucket of a hundred at 2 s.
ENOUGH_SPEECH_FRAMES = 100
_BITS, _CHANNELS = 16.0, 1.0
_CONTIGUOUS_S = 1.0
_FRAME_KEYS = tuple(metric.key for metric in FRAME_METRICS)
_LOW_BAND, _VOICE = COLUMNS["fft.low_band_energy"], COLUMNS["pcm.vad_probability"]
_CLIPPING, _SNR = COLUMNS["pcm.clipping_ratio"], COLUMNS["pcm.snr_estimate"]
_MUTED, _FROZEN = COLUMNS["pcm.muted_signal"], COLUMNS["pcm.frozen_signal"]

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
    closed: ClosedTap,
    memory: StationMemory,
    paired: Aggregates,
    weights: Mapping[str, Weight],
) -> TapBucket:
    """Sum up one bucket of one tap.

    Args:
        closed: What was gathered.
        memory: Of the station; goes on from bucket to bucket.
        paired: What comparing it with PRE has said, if it is POST.
        weights: Of the health score.
    """
    of_frames = aggregated(closed.rows)
    values = _bucket_values(closed, of_frames, memory.integrated[closed.tap])
    health = _health(values, of_frames, paired, weights)
    values["health.audio_score"] = health.score
    return to_tap_bucket(closed, _aggregates(closed, values, of_frames, paired), health.costs)


def _aggregates(
    closed: ClosedTap, values: Values, of_frames: Matrix, paired: Aggregates
) -> Aggregates:
    """Put together what has one value in the bucket, notes, frames and pairs."""
    # Numbers in one list: a tuple for each would be something for the garbage collector to count.
    few: list[float] = []
    for value in values.values():
        few += 1.0, value, value, value, value
    for noted in closed.notes.values():
        few += noted[:5]
    times = [closed.start_ns] * len(values)
    times += [to_ns(noted.position, closed.rate) for noted in closed.notes.values()]
    known = list(compress(_FRAME_KEYS, of_frames[COUNT].tolist()))
    table = of_frames.T[: len(_FRAME_KEYS)]
    if len(known) < len(table):
        table = table[table[:, COUNT] > 0]
    if known:
        base = closed.start_ns // BUCKET_NS * BUCKET_SECONDS * closed.rate
        times += [to_ns(base + int(closed.starts[-1]), closed.rate)] * len(known)
    return Aggregates(
        (*values, *closed.notes, *known, *paired.keys),
        np.concatenate((np.array(few).reshape(-1, 5), table, paired.table)),
        np.concatenate((np.array(times, np.int64), paired.times)),
    )


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


def _bucket_values(closed: ClosedTap, of_frames: Matrix, integrated: Integrated) -> Values:
    """Return the metrics that have one value in a bucket; what is unknown is left out."""
    lost = sum(gap.samples for gap in closed.gaps if gap.cause.is_loss)
    integrated.add(closed.rows[:, GATING_BLOCK])
    values = {
        "stream.frames": float(len(closed.rows)),
        "stream.sample_rate": float(closed.rate),
        "stream.bit_depth": _BITS,
        "stream.channel_count": _CHANNELS,
        "pipe.frame_drop_ratio": lost / closed.due_samples,
        "stream.pace": closed.pace,
        "advanced.lufs_integrated": integrated.value(),
        "advanced.dynamic_range": _dynamic_range(closed),
    }
    if of_frames[COUNT, _LOW_BAND]:  # the spectrum is not switched off
        values["fft.hum_detected"] = _hum(closed)
        values["fft.hiss_detected"] = _hiss(closed)
    if of_frames[COUNT, _VOICE]:
        starts = closed.starts[closed.speech]
        values["pcm.speech_ratio"] = len(starts) / float(of_frames[COUNT, _VOICE])
        if len(starts):
            values |= _of_speech(closed, starts)
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _of_speech(closed: ClosedTap, starts: Offsets) -> Values:
    """Measure what needs to know where frames of speech begin; there is one at least."""
    pcm, rate = closed.samples(), closed.rate
    return {
        "pcm.active_level_dbfs": active_level(pcm, rate)[0],
        "pipe.border_click_ratio": click_ratio(pcm, closed.borders, speech=starts, rate=rate),
    }


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
    return hum.hum(np.frombuffer(longest.pcm, "<i2"), closed.rate)


def _hiss(closed: ClosedTap) -> float:
    return hum.hiss(
        closed.column("pcm.rms_dbfs"),
        closed.column("fft.spectral_flatness"),
        closed.column("fft.high_band_energy"),
        closed.speech,
    )


def compare(
    taps: Mapping[Tap, ClosedTap], memory: StationMemory, silence_dbfs: float
) -> Aggregates:
    """Compare PRE with POST in one bucket, where both are there and have something in common."""
    if memory.is_unrelated or len(taps) < len(Tap):
        return NONE
    pre, post = taps[Tap.PRE], taps[Tap.POST]
    found = pairs.compare(
        _side(pre), _side(post), pre.rate, silence_dbfs=silence_dbfs, known_delay=memory.delay
    )
    has_said_enough = min(map(np.count_nonzero, (pre.speech, post.speech))) >= ENOUGH_SPEECH_FRAMES
    if found.correlation is not None and has_said_enough:
        memory.is_related |= found.correlation >= UNRELATED_BELOW
        memory.weak += found.correlation < UNRELATED_BELOW
    if found.delay_samples is not None:
        memory.delay = found.delay_samples
    of_frames = aggregated_series(list(found.frames.values()))
    frames = Aggregates(tuple(found.frames), of_frames, np.full(len(of_frames), pre.start_ns))
    return Aggregates.joined((frames, Aggregates.of_values(found.bucket, pre.start_ns)))


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
    of_frames: Matrix,
    paired: Aggregates,
    weights: Mapping[str, Weight],
) -> Health:
    snr, muted, frozen = (_mean(of_frames, column) for column in (_SNR, _MUTED, _FROZEN))
    added = paired.mean_of("pair.added_silence_ratio")
    return judge(
        Defects(
            clipping=_mean(of_frames, _CLIPPING),
            limiting=paired.mean_of("pair.limited_ratio"),
            noise=None if snr is None else GOOD_SNR_DB - snr,
            mute=muted if added is None else added,
            freeze=None if frozen is None or muted is None else frozen - muted,
            loss=values["pipe.frame_drop_ratio"],
            lost_speech=paired.mean_of("pair.speech_lost_ratio"),
        ),
        weights,
    )


def _mean(of_frames: Matrix, column: int) -> float | None:
    count = of_frames[COUNT, column]
    return float(of_frames[SUM, column] / count) if count else None
