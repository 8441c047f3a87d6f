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

import numpy as np

from exporter.analysis import alignment
from exporter.analysis.alignment import (
    Audio,
    Places,
    Ranges,
    Samples,
    Signal,
    Spectra,
    Truths,
    inside,
    rows,
)
from exporter.analysis.timedomain import FLOOR_DBFS, FULL_SCALE, Column
from exporter.model import FRAMES_PER_SECOND

MIN_CORRELATION = 0.3

_SNR_RANGE_DB = (-10.0, 35.0)
_SPECTRUM_FLOOR_DB = -80.0
# 300 to 3400 Hz: bins are as far apart as there are frames in a second.
_COHERENCE_BINS = slice(300 // FRAMES_PER_SECOND, 3_400 // FRAMES_PER_SECOND + 1)
# Signals that have nothing in common seem coherent by one over the number of segments.
_MIN_SEGMENTS = 16
_LIMITED_RATIO = 10.0 ** (0.5 / 20.0)
_LIMITED_FLOOR = FULL_SCALE * 10.0 ** (-50.0 / 20.0)
# The usual gain is a median over every eighth sample: as good, and far cheaper.
_MEDIAN_STEP = 8
# Keeps the logarithm of an energy finite; far below the square of one sample.
_TINY = 1e-6

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
    speech = pre.starts[pre.speech & inside(pre.starts, rate // FRAMES_PER_SECOND, pre.ranges)]
    if not speech.size:
        return Comparison()
    pair, correlation = _aligned(pre, post, speech, rate, known_delay)
    is_known = abs(correlation) >= MIN_CORRELATION
    if is_known:
        pair.sound.delay_to_peak()
    delay = pair.shift + pair.sound.delay
    frames, bucket = _measure(pair, delay, silence_dbfs)
    if is_known:
        bucket["pair.delay_ms"] = 1e3 * delay / rate
        bucket["pair.polarity_inverted"] = float(correlation < 0.0)
    size = abs(correlation) if post.speech.any() else None
    return Comparison(frames, bucket, size, delay if is_known else None)


def _aligned(
    pre: Side, post: Side, speech: Places, rate: int, known: float | None
) -> tuple[_Pair, float]:
    """Lay POST beside PRE, and return their signed correlation with it.

    The search is left out where the known delay leaves no doubt; where it finds that very delay,
    nothing is laid again.
    """
    samples = rate // FRAMES_PER_SECOND
    pair = None if known is None else _Pair(pre, post, samples, known)
    if pair and alignment.is_within(pair.shift, rate):
        # Speech that has no partner counts as unlike: a few frames prove little.
        correlation = pair.sound.correlation() * math.sqrt(pair.sound.count / speech.size)
        if abs(correlation) >= alignment.SURE_CORRELATION:
            return pair, correlation
    taps = Audio(pre.pcm, pre.ranges), Audio(post.pcm, post.ranges)
    lag = alignment.find_lag(*taps, speech=speech, rate=rate)
    delay = lag.samples if abs(lag.correlation) >= MIN_CORRELATION else known or 0.0
    if not pair or pair.shift != round(delay):
        pair = _Pair(pre, post, samples, delay)
    return pair, lag.correlation


def _measure(pair: _Pair, delay: float, silence_dbfs: float) -> tuple[dict[str, Column], Metrics]:
    """Compute every metric that needs no more than an alignment."""
    sound = pair.sound
    bucket = pair.speech_lost(silence_dbfs) | pair.added_silence()
    frames = {"pair.loudness_delta_lu": pair.loudness_delta(delay)}
    if sound.count:
        bucket |= sound.coherence() | pair.limited()
        frames["pair.gain_db"], frames["pair.segmental_snr_db"] = sound.gain_and_snr_db()
        frames["pair.log_spectral_distance_db"] = sound.spectral_distance_db()
    return {key: values for key, values in frames.items() if values.size}, bucket


class _Pair:
    """Both taps, POST laid so that its sample ``n + shift`` stands beside PRE's sample n.

    Attributes:
        shift: The delay as a whole number of samples.
        sound: The speech frames that are digital silence at neither tap.
    """

    def __init__(self, pre: Side, post: Side, samples: int, delay: float) -> None:
        self._pre, self._post = pre, post
        self._samples = samples
        self.shift = round(delay)
        is_counted = inside(pre.starts, samples, pre.ranges)
        is_counted &= inside(pre.starts + self.shift, samples, post.ranges)
        self._counted = pre.starts[is_counted]
        self._speech = np.flatnonzero(is_counted & pre.speech)
        starts = pre.starts[self._speech]
        beside = rows(post.pcm, starts + self.shift, samples).astype(np.float32)
        self._energy = _products(beside, beside)
        is_heard = (self._energy > 0.0) & (pre.rms_dbfs[self._speech] > FLOOR_DBFS)
        if not is_heard.all():
            starts, beside = starts[is_heard], beside[is_heard]
        self.sound = _Sound(pre.pcm, starts, beside, delay - self.shift)

    def speech_lost(self, silence_dbfs: float) -> Metrics:
        """Return the share of PRE's speech that is silent at POST, and was not at PRE."""
        if not self._speech.size:
            return {}
        is_lost = self._energy < self._samples * FULL_SCALE**2 * 10.0 ** (silence_dbfs / 10.0)
        is_lost &= self._pre.rms_dbfs[self._speech] >= silence_dbfs
        return {"pair.speech_lost_ratio": float(np.mean(is_lost))}

    def added_silence(self) -> Metrics:
        """Return the share of POST's frames that are digital silence where PRE is not."""
        starts = self._post.starts
        is_counted = inside(starts, self._samples, self._post.ranges)
        is_counted &= inside(starts - self.shift, self._samples, self._pre.ranges)
        count = int(np.count_nonzero(is_counted))
        if not count:
            return {}
        muted = starts[is_counted & (self._post.rms_dbfs <= FLOOR_DBFS)]
        if not muted.size:
            return {"pair.added_silence_ratio": 0.0}
        is_added = ~rows(self._post.pcm, muted, self._samples).any(axis=1)
        is_added &= rows(self._pre.pcm, muted - self.shift, self._samples).any(axis=1)
        return {"pair.added_silence_ratio": int(np.count_nonzero(is_added)) / count}

    def loudness_delta(self, delay: float) -> Column:
        """Return momentary loudness of POST, shifted by whole frames, less that of PRE."""
        starts, last = self._post.starts, self._post.starts.size - 1
        if last < 0:
            return np.empty(0)
        half = self._samples // 2
        target = self._pre.starts[self._speech] + round(delay / self._samples) * self._samples
        nearest = np.minimum(np.searchsorted(starts, target - half), last)
        delta = self._post.momentary[nearest] - self._pre.momentary[self._speech]
        return np.asarray(delta[(np.abs(starts[nearest] - target) <= half) & ~np.isnan(delta)])

    def limited(self) -> Metrics:
        """Return the share of samples that the usual gain would carry above POST's peak.

        Where POST is digital silence, a packet is missing, and nothing was limited.
        """
        after = rows(self._post.pcm, self._counted + self.shift, self._samples)
        peak = max(int(after.max()), -int(after.min()))
        gain = self.sound.usual_gain(peak)
        if not gain:
            return {}
        before = rows(self._pre.pcm, self._counted, self._samples)
        most = int(peak * _LIMITED_RATIO / gain)
        if most >= max(int(before.max()), -int(before.min())):
            return {"pair.limited_ratio": 0.0}
        # As uint16, the magnitude of -32768 is what it should be.
        is_limited = np.abs(before).view(np.uint16) > most
        is_limited &= after.any(axis=1)[:, None]
        return {"pair.limited_ratio": int(np.count_nonzero(is_limited)) / after.size}


class _Sound:
    """Speech frames of both taps, neither digital silence, PRE delayed by part of a sample.

    Attributes:
        count: How many frames.
        delay: The part of a sample.
    """

    def __init__(self, pcm: Samples, starts: Places, post: Signal, delay: float) -> None:
        self._pcm, self._starts, self._post = pcm, starts, post
        self.count, self._samples = post.shape
        self._post_spectra = alignment.spectra(post)
        self._post_power = _power(self._post_spectra)
        self._post_sum = self._post_power.sum(axis=0)
        self._delay_pre(delay)

    def _delay_pre(self, by: float) -> None:
        if abs(by) < alignment.LEAST_FRACTION:
            by = 0.0
            self._pre = rows(self._pcm, self._starts, self._samples).astype(np.float32)
        else:
            self._pre = alignment.delayed(self._pcm, self._starts, self._samples, by=by)
        self.delay = by
        spectra = alignment.spectra(self._pre)
        self._cross = alignment.cross_spectrum(spectra, self._post_spectra)
        self._pre_power = _power(spectra)
        self._pre_sum = self._pre_power.sum(axis=0)

    def delay_to_peak(self) -> None:
        """Delay PRE by what is left of the delay, unless that is next to nothing."""
        rest = alignment.fraction(self._cross, self._samples)
        if abs(rest) >= alignment.LEAST_FRACTION:
            self._delay_pre(self.delay + rest)
            rest = alignment.fraction(self._cross, self._samples)
        self.delay += rest

    def correlation(self) -> float:
        """Return the signed correlation, 0 where it is larger at a whole lag beside."""
        return alignment.peak_correlation(self._cross, *self._levels(), self._samples)

    def _levels(self) -> tuple[float, float]:
        """Return the power of PRE and POST without direct current, above 0."""
        pre, post = (each[alignment.FIRST_BIN :].sum() for each in (self._pre_sum, self._post_sum))
        return max(float(pre), _TINY), max(float(post), _TINY)

    def gain_and_snr_db(self) -> tuple[Column, Column]:
        """Return what they are at each frame, ``[F]``.

        The gain is the level of POST less that of PRE; in the segmental SNR, PRE under one signed
        gain is the signal.
        """
        pre = np.maximum(_products(self._pre, self._pre), _TINY)
        post = _products(self._post, self._post)
        product = _products(self._pre, self._post)
        gain = product.sum() / pre.sum()
        signal = gain**2 * pre
        noise = post - 2.0 * gain * product + signal
        ratio = np.maximum(signal, _TINY) / np.maximum(noise, _TINY)
        snr = np.clip(10.0 * np.log10(ratio), *_SNR_RANGE_DB)
        return np.asarray(10.0 * np.log10(post / pre)), np.asarray(snr)

    def spectral_distance_db(self) -> Column:
        """Return the RMS difference of the spectra in decibels, less that of the level, ``[F]``.

        The level is that of the bucket's speech without direct current. The bins of a frame add up
        to its mean square, full scale is 32768 squared; what lies below -80 dB counts as -80 dB.
        """
        pre_level, post_level = self._levels()
        unit = self._samples * float(np.square(alignment.window(self._samples)).sum()) / 2.0
        floor = np.float32(unit * FULL_SCALE**2 * 10.0 ** (_SPECTRUM_FLOOR_DB / 10.0))
        nepers = self._pre_power * np.float32(post_level / pre_level)
        np.maximum(nepers, floor, out=nepers)
        nepers /= np.maximum(self._post_power, floor)
        np.log(nepers, out=nepers)
        mean_square = _products(nepers, nepers) / nepers.shape[1]
        return np.asarray(10.0 / math.log(10.0) * np.sqrt(mean_square))

    def coherence(self) -> Metrics:
        """Return the magnitude-squared coherence of 300 to 3400 Hz, the mean over bins."""
        if self.count < _MIN_SEGMENTS:
            return {}
        power = self._pre_sum[_COHERENCE_BINS].astype(np.float64)
        power *= self._post_sum[_COHERENCE_BINS]
        is_there = power > 0.0
        if not is_there.any():
            return {}
        cross = np.abs(self._cross[_COHERENCE_BINS][is_there]) ** 2
        return {"pair.coherence": min(1.0, float(np.mean(cross / power[is_there])))}

    def usual_gain(self, peak: int) -> float:
        """Return the median of POST / PRE, away from POST's peak; 0 where there is none."""
        pre = np.abs(self._pre[:, ::_MEDIAN_STEP])
        gains = np.abs(self._post[:, ::_MEDIAN_STEP])
        is_fit = (pre > _LIMITED_FLOOR) & (gains < peak / 2)
        count = int(np.count_nonzero(is_fit))
        if not count:
            return 0.0
        gains /= np.maximum(pre, _LIMITED_FLOOR)
        # Those that are not fit stand last.
        np.copyto(gains, np.inf, where=~is_fit)
        # Sorting float32 takes numpy a third of the time of partitioning it.
        return float(np.sort(gains, axis=None)[count // 2])


def _power(spectra: Spectra) -> Signal:
    """Return the squared magnitudes."""
    power = np.square(spectra.real)
    power += np.square(spectra.imag)
    return np.asarray(power)


def _products(left: Signal, right: Signal) -> Column:
    """Return the sum of products of each row."""
    return np.asarray(np.vecdot(left, right), np.float64)
