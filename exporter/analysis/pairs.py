"""What a station did to the sound: PRE against POST of one bucket (``pair.*``).

POST is laid beside PRE at the delay at which they correlate most or, where they hardly do, at the
last known one (``exporter.analysis.alignment``). Frames of PRE whose delayed POST is there, in the
bucket and in no gap, are *counted*. Gain, SNR, spectral distance and coherence look at the counted
speech whose POST is not digital silence: a lost packet has no gain. Gain and SNR come from the
frames' energies and products, PRE delayed to a fraction of a sample; one signed gain for the whole
bucket, by least squares, makes PRE the signal of the SNR. Distance and coherence come from Hann
spectra of the same frames, the segments of Welch's method. Limiting is counted on all samples of
counted frames, added silence on POST's own frames, for those are what is lost in packets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from exporter.analysis import alignment, pair_frames
from exporter.analysis.alignment import Audio, Places, Samples
from exporter.analysis.pair_frames import Truths
from exporter.analysis.pair_spectra import PairSpectra, half_window
from exporter.analysis.timedomain import FULL_SCALE, Column
from exporter.model import FRAMES_PER_SECOND

MIN_CORRELATION = 0.3

# How often PRE is delayed anew, at most, until no fraction of a sample is left.
_MOST_TURNS = 2

Ranges = tuple[tuple[int, int], ...]
Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """One tap of a station in one bucket of N samples.

    Attributes:
        pcm: int16 ``[N]``, 0 where there is no audio.
        ranges: First sample, and the one after the last, of each piece of audio, in order.
        starts: First sample of each frame that begins in the bucket, in order: int64 ``[F]``.
        speech: Whether the frame is speech, ``[F]``.
        rms_dbfs: ``pcm.rms_dbfs`` of the frame, ``[F]``.
        momentary: ``advanced.lufs_momentary`` at the frame, NaN where unknown, ``[F]``.
    """

    pcm: Samples
    ranges: Ranges
    starts: Places
    speech: Truths
    rms_dbfs: Column
    momentary: Column


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known of a bucket; an unknown metric has no entry.

    Attributes:
        frames: Metrics of frames: their known values in the order of time, at least one.
        bucket: Metrics of the bucket.
        correlation: Largest absolute correlation within +-500 ms, 0 to 1; None unless both taps
            have speech.
        delay_samples: The delay, None where the correlation is too small to tell.
    """

    frames: dict[str, Column] = field(default_factory=dict)
    bucket: Metrics = field(default_factory=dict)
    correlation: float | None = None
    delay_samples: float | None = None


def compare(
    pre: Side, post: Side, rate: int, *, silence_dbfs: float, known_delay: float | None
) -> Comparison:
    """Compare the taps of a station of kind ``process`` in one bucket.

    Args:
        pre: The tap PRE.
        post: The tap POST, at the same rate.
        rate: Samples a second.
        silence_dbfs: A frame whose level lies below is silent.
        known_delay: The station's last known delay in samples, None when there is none.

    Returns:
        The metrics; nothing when PRE has no speech.
    """
    before, after = _Tap(pre), _Tap(post)
    spoken = before.spoken(rate // FRAMES_PER_SECOND)
    if not spoken.size:
        return Comparison()
    pair, correlation = _aligned(before, after, spoken, rate, known_delay)
    delay, is_known = pair.delay, abs(correlation) >= MIN_CORRELATION
    if is_known:
        pair = pair.settled()
        most = alignment.MAX_DELAY_S * rate
        delay = max(-most, min(pair.delay + pair.spectra.fraction, most))
    frames, bucket = _measure(pair, delay, silence_dbfs)
    if is_known:
        bucket["pair.delay_ms"] = 1e3 * delay / rate
        bucket["pair.polarity_inverted"] = float(correlation < 0.0)
    size = abs(correlation) if after.speech.any() else None
    return Comparison(frames, bucket, size, delay if is_known else None)


class _Tap:
    """A side as loops take it; ``ranges`` is int64 ``[pieces, 2]``."""

    def __init__(self, side: Side) -> None:
        self.pcm, self.starts = side.pcm, np.ascontiguousarray(side.starts)
        self.speech = np.ascontiguousarray(side.speech)
        self.ranges = np.array(side.ranges, np.int64).reshape(-1, 2)
        self.rms_dbfs = np.ascontiguousarray(side.rms_dbfs)
        self.momentary = np.ascontiguousarray(side.momentary)

    def spoken(self, samples: int) -> Places:
        """Return first samples of the speech frames that end in the bucket and in no gap."""
        places = np.empty(self.starts.size, np.int64)
        return places[: pair_frames.spoken(self.starts, self.speech, self.ranges, samples, places)]


def _aligned(
    pre: _Tap, post: _Tap, spoken: Places, rate: int, known: float | None
) -> tuple[_Pair, float]:
    """Lay POST beside PRE, and return their signed correlation with it.

    The search is left out where the known delay leaves no doubt; where it finds that very sample,
    nothing is laid again.
    """
    samples = rate // FRAMES_PER_SECOND
    pair = None if known is None else _Pair(pre, post, samples, known)
    if pair and alignment.is_within(pair.shift, rate):
        # Speech that has no partner counts as unlike: a few frames prove little.
        share = math.sqrt(pair.count / spoken.size)
        if share * abs(pair.likeness) >= alignment.SURE_CORRELATION:
            correlation = share * pair.spectra.correlation()
            if abs(correlation) >= alignment.SURE_CORRELATION:
                return pair, correlation
    taps = Audio(pre.pcm, pre.ranges), Audio(post.pcm, post.ranges)
    lag = alignment.find_lag(*taps, speech=spoken, rate=rate)
    delay = float(lag.samples) if abs(lag.correlation) >= MIN_CORRELATION else known or 0.0
    if not pair or pair.shift != round(delay):
        pair = _Pair(pre, post, samples, delay)
    return pair, lag.correlation


def _measure(pair: _Pair, delay: float, silence_dbfs: float) -> tuple[dict[str, Column], Metrics]:
    """Compute every metric that needs no more than an alignment."""
    frames = {"pair.loudness_delta_lu": pair.loudness_delta(delay)}
    bucket = {
        "pair.speech_lost_ratio": pair.speech_lost(silence_dbfs),
        "pair.added_silence_ratio": pair.added_silence(),
    }
    if pair.count:
        bucket["pair.coherence"] = pair.spectra.coherence()
        bucket["pair.limited_ratio"] = pair.limited()
        frames["pair.gain_db"], frames["pair.segmental_snr_db"] = pair.gain_and_snr_db()
        frames["pair.log_spectral_distance_db"] = pair.spectra.distance_db()
    return (
        {key: values for key, values in frames.items() if values.size},
        {key: value for key, value in bucket.items() if not math.isnan(value)},
    )


class _Pair:
    """Both taps, PRE laid so that it is ``delay`` samples late, beside POST.

    Its sound are the speech frames that are digital silence at neither tap.

    Attributes:
        delay: In samples.
        shift: The same as a whole number.
        count: Frames of its sound.
        likeness: Their signed correlation, a direct current being part of it.
    """

    def __init__(self, pre: _Tap, post: _Tap, samples: int, delay: float) -> None:
        self._pre, self._post, self._samples = pre, post, samples
        self.shift = round(delay)
        part = delay - self.shift
        if abs(part) < alignment.LEAST_FRACTION:
            part = 0.0
        self.delay = self.shift + part
        frames = pre.starts.size
        self._seen, heard = np.empty((frames, 3), np.float32), np.empty(frames, np.int64)
        self.count = pair_frames.look(
            *(pre.pcm, pre.ranges, pre.starts, pre.speech, pre.rms_dbfs),
            *(post.pcm, post.ranges, samples, self.shift),
            *(self._seen, heard),
        )
        self._heard = heard[: self.count]
        self._delayed = np.empty((0, samples), np.float32)
        if self.count and part:
            self._delayed = alignment.delayed(pre.pcm, self._heard, samples, by=part)
        self._sums = np.empty((self.count, 3), np.float32)
        self._both = np.empty((self.count, samples), np.complex64)
        self.likeness = pair_frames.lay(
            *(pre.pcm, self._delayed, post.pcm, self._heard, self.shift),
            *(half_window(samples), self._sums, self._both),
        )

    @cached_property
    def spectra(self) -> PairSpectra:
        """Those of the sound, made when they are first asked for."""
        return PairSpectra(self._both)

    def settled(self) -> _Pair:
        """Return the pair at the delay at which they are most alike."""
        pair = self
        for _ in range(_MOST_TURNS):
            if abs(pair.spectra.fraction) < alignment.LEAST_FRACTION:
                break
            delay = pair.delay + pair.spectra.fraction
            pair = _Pair(self._pre, self._post, self._samples, delay)
        return pair

    def gain_and_snr_db(self) -> Column:
        """Return what they are at each frame, ``[2, F]``.

        The gain is the level of POST less that of PRE; in the segmental SNR, PRE under one signed
        gain is the signal.
        """
        gain_and_snr = np.empty((2, self.count))
        pair_frames.gain_and_snr(self._sums, gain_and_snr)
        return gain_and_snr

    def speech_lost(self, silence_dbfs: float) -> float:
        """Return the share of PRE's speech that is silent at POST, and was not at PRE."""
        silence = self._samples * FULL_SCALE**2 * 10.0 ** (silence_dbfs / 10.0)
        pre = self._pre
        return pair_frames.lost(pre.speech, pre.rms_dbfs, self._seen, silence_dbfs, silence)

    def added_silence(self) -> float:
        """Return the share of POST's frames that are digital silence where PRE is not."""
        pre, post = self._pre, self._post
        return pair_frames.added_silence(
            *(pre.pcm, pre.ranges, post.pcm, post.ranges, post.starts, post.rms_dbfs),
            *(self._samples, self.shift),
        )

    def loudness_delta(self, delay: float) -> Column:
        """Return momentary loudness of POST, shifted by whole frames, less that of PRE."""
        pre, post, samples = self._pre, self._post, self._samples
        delta = np.empty(pre.starts.size)
        whole = round(delay / samples) * samples
        count = pair_frames.loudness_delta(
            *(pre.starts, pre.speech, pre.momentary, self._seen, post.starts, post.momentary),
            *(whole, samples // 2, delta),
        )
        return delta[:count]

    def limited(self) -> float:
        """Return the share of samples that the usual gain would carry above POST's peak."""
        return pair_frames.limited(
            *(self._pre.pcm, self._delayed, self._post.pcm, self._pre.starts, self._heard),
            *(self._samples, self.shift, self._seen),
        )
