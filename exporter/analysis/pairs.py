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
from functools import cached_property, lru_cache

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

# -10 and 35 dB.
_LEAST_SNR, _MOST_SNR = 10.0**-1.0, 10.0**3.5
_SPECTRUM_FLOOR_DB = -80.0
# 300 to 3400 Hz: bins are as far apart as there are frames in a second.
_COHERENCE_BINS = slice(300 // FRAMES_PER_SECOND, 3_400 // FRAMES_PER_SECOND + 1)
# Signals that have nothing in common seem coherent by one over the number of segments.
_MIN_SEGMENTS = 16
_LIMITED_RATIO = 10.0 ** (0.5 / 20.0)
_LIMITED_FLOOR = FULL_SCALE * 10.0 ** (-50.0 / 20.0)
# The usual gain is a median over every eighth sample: as good, and far cheaper.
_MEDIAN_STEP = 8
# Beyond every gain.
_FAR = np.float32(1e30)
# Keeps the logarithm of an energy finite; far below the square of one sample.
_TINY = 1e-6
_NO_POWER = 1e-300

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
    samples = rate // FRAMES_PER_SECOND
    pre = _whole(pre, samples)
    if not pre.speech.any():
        return Comparison()
    pair, correlation = _aligned(pre, post, rate, known_delay)
    is_known = abs(correlation) >= MIN_CORRELATION
    part = pair.spectra.fraction if is_known else (known_delay or 0.0) - pair.shift
    if abs(part) >= alignment.LEAST_FRACTION:
        pair.delay_pre(part)
    delay = pair.shift + part
    frames, bucket = _measure(pair, delay, silence_dbfs)
    if is_known:
        bucket["pair.delay_ms"] = 1e3 * delay / rate
        bucket["pair.polarity_inverted"] = float(correlation < 0.0)
    size = abs(correlation) if post.speech.any() else None
    return Comparison(frames, bucket, size, delay if is_known else None)


def _whole(tap: Side, samples: int) -> Side:
    """Return the tap with those of its frames that end in the bucket and in no gap."""
    is_whole = inside(tap.starts, samples, tap.ranges)
    if is_whole.all():
        return tap
    return Side(
        tap.pcm,
        tap.ranges,
        tap.starts[is_whole],
        tap.speech[is_whole],
        tap.rms_dbfs[is_whole],
        tap.momentary[is_whole],
    )


def _aligned(pre: Side, post: Side, rate: int, known: float | None) -> tuple[_Pair, float]:
    """Lay POST beside PRE, and return their signed correlation with it.

    The search is left out where the known delay leaves no doubt, or a sample beside it; where it
    finds that very delay, nothing is laid again.
    """
    samples = rate // FRAMES_PER_SECOND
    pair = None if known is None else _Pair(pre, post, samples, round(known))
    if pair and alignment.is_within(pair.shift, rate):
        # Speech that has no partner counts as unlike: a few frames prove little.
        share = math.sqrt(pair.sound.count / np.count_nonzero(pre.speech))
        if share * abs(pair.sound.likeness()) >= alignment.SURE_CORRELATION:
            correlation = share * pair.spectra.correlation()
            if abs(correlation) >= alignment.SURE_CORRELATION:
                return pair.at_nearest(), correlation
    taps = Audio(pre.pcm, pre.ranges), Audio(post.pcm, post.ranges)
    lag = alignment.find_lag(*taps, speech=pre.starts[pre.speech], rate=rate)
    shift = lag.samples if abs(lag.correlation) >= MIN_CORRELATION else round(known or 0.0)
    if not pair or pair.shift != shift:
        pair = _Pair(pre, post, samples, shift)
    return pair, lag.correlation


def _measure(pair: _Pair, delay: float, silence_dbfs: float) -> tuple[dict[str, Column], Metrics]:
    """Compute every metric that needs no more than an alignment."""
    sound, spectra = pair.sound, pair.spectra
    bucket = pair.speech_lost(silence_dbfs) | pair.added_silence()
    frames = {"pair.loudness_delta_lu": pair.loudness_delta(delay)}
    if sound.count:
        bucket |= spectra.coherence() | pair.limited()
        frames["pair.gain_db"], frames["pair.segmental_snr_db"] = sound.gain_and_snr_db()
        frames["pair.log_spectral_distance_db"] = spectra.distance_db()
    return {key: values for key, values in frames.items() if values.size}, bucket


class _Pair:
    """Both taps, POST laid so that its sample ``n + shift`` stands beside PRE's sample n.

    Attributes:
        shift: The delay as a whole number of samples.
        sound: The speech frames that are digital silence at neither tap.
    """

    def __init__(self, pre: Side, post: Side, samples: int, shift: int) -> None:
        self._pre, self._post = pre, post
        self._samples, self.shift = samples, shift
        is_counted = inside(pre.starts + shift, samples, post.ranges)
        self._counted = pre.starts[is_counted]
        self._speech = np.flatnonzero(is_counted & pre.speech)
        self._heard = self._starts = starts = pre.starts[self._speech]
        self._rms_dbfs = pre.rms_dbfs[self._speech]
        frames = np.empty((2, starts.size, samples), np.float32)
        frames[0] = rows(pre.pcm, starts, samples)
        frames[1] = rows(post.pcm, starts + shift, samples)
        energy = _products(frames, frames)
        self._energy = energy[1]
        is_heard = (energy[1] > 0.0) & (self._rms_dbfs > FLOOR_DBFS)
        if not is_heard.all():
            self._heard, frames, energy = starts[is_heard], frames[:, is_heard], energy[:, is_heard]
        self._frames = frames
        self.sound = _Sound(frames, energy)

    @cached_property
    def spectra(self) -> _Spectra:
        """Those of the sound, made when they are first asked for."""
        frames = self._frames
        del self._frames
        return _Spectra(frames)

    def at_nearest(self) -> _Pair:
        """Return the pair at the whole sample that is nearest to where they are most alike."""
        beside = round(self.spectra.fraction)
        if not beside:
            return self
        return _Pair(self._pre, self._post, self._samples, self.shift + beside)

    def delay_pre(self, by: float) -> None:
        """Delay the sound of PRE by part of a sample."""
        pre = alignment.delayed(self._pre.pcm, self._heard, self._samples, by=by)
        post = rows(self._post.pcm, self._heard + self.shift, self._samples).astype(np.float32)
        self.sound.replace_pre(pre, post)
        self.spectra.replace_pre(pre)

    def speech_lost(self, silence_dbfs: float) -> Metrics:
        """Return the share of PRE's speech that is silent at POST, and was not at PRE."""
        if not self._starts.size:
            return {}
        is_lost = self._energy < self._samples * FULL_SCALE**2 * 10.0 ** (silence_dbfs / 10.0)
        is_lost &= self._rms_dbfs >= silence_dbfs
        return {"pair.speech_lost_ratio": int(np.count_nonzero(is_lost)) / is_lost.size}

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
        target = self._starts + round(delay / self._samples) * self._samples
        nearest = np.minimum(np.searchsorted(starts, target - half), last)
        delta = self._post.momentary[nearest] - self._pre.momentary[self._speech]
        return np.asarray(delta[(np.abs(starts[nearest] - target) <= half) & ~np.isnan(delta)])

    def limited(self) -> Metrics:
        """Return the share of samples that the usual gain would carry above POST's peak.

        Where POST is digital silence, a packet is missing, and nothing was limited.
        """
        after = rows(self._post.pcm, self._counted + self.shift, self._samples)
        before = rows(self._pre.pcm, self._counted, self._samples)
        peak, most = _peak(after), _peak(before)
        count, gains = self.sound.gains(peak)
        if not count or 2 * np.count_nonzero(gains <= 0.0) > count:
            return {}
        # Whether the median is more than that which limits nothing is told without it.
        if 2 * np.count_nonzero(gains <= peak * _LIMITED_RATIO / most) > count:
            return {"pair.limited_ratio": 0.0}
        # Numpy sorts float32 faster than it partitions it.
        usual = float(np.sort(gains, axis=None)[count // 2])
        # As uint16, the magnitude of -32768 is what it should be.
        is_limited = np.abs(before).view(np.uint16) > int(peak * _LIMITED_RATIO / usual)
        is_limited &= after.any(axis=1, keepdims=True)
        return {"pair.limited_ratio": int(np.count_nonzero(is_limited)) / after.size}


class _Sound:
    """Speech frames of both taps, neither digital silence, aligned to a whole sample at first.

    Attributes:
        count: How many frames.
    """

    def __init__(self, frames: Signal, energy: Column) -> None:
        """Measure frames ``[2, F, n]``, whose sums of squares are ``[2, F]``."""
        self.count = frames.shape[1]
        self._pre_energy, self._post_energy = energy
        self._product = _products(*frames)
        self._pre_some, self._post_some = np.abs(frames[..., ::_MEDIAN_STEP])

    def replace_pre(self, pre: Signal, post: Signal) -> None:
        """Measure frames of PRE that are delayed, beside the same ones of POST."""
        self._pre_energy, self._product = _products(pre, pre), _products(pre, post)
        self._pre_some = np.abs(pre[:, ::_MEDIAN_STEP])

    def likeness(self) -> float:
        """Return the signed correlation, a direct current being part of it."""
        energy = float(self._pre_energy.sum()) * float(self._post_energy.sum())
        return float(self._product.sum()) / math.sqrt(energy) if energy else 0.0

    def gain_and_snr_db(self) -> tuple[Column, Column]:
        """Return what they are at each frame, ``[F]``.

        The gain is the level of POST less that of PRE; in the segmental SNR, PRE under one signed
        gain is the signal.
        """
        pre, post, product = np.maximum(self._pre_energy, _TINY), self._post_energy, self._product
        gain = float(product.sum() / pre.sum())
        signal = gain**2 * pre
        noise = post + signal
        noise -= (2.0 * gain) * product
        signal /= np.maximum(noise, _TINY)
        snr = np.minimum(np.maximum(signal, _LEAST_SNR), _MOST_SNR)
        return 10.0 * np.log10(post / pre), 10.0 * np.log10(snr)

    def gains(self, peak: int) -> tuple[int, Signal]:
        """Return how many known gains there are, and POST / PRE of some samples.

        A gain is known away from POST's peak and where PRE is not faint; the others stand far
        above: numpy takes long to choose.
        """
        pre, post = self._pre_some, self._post_some
        is_unknown = (pre <= _LIMITED_FLOOR) | (post >= peak / 2)
        gains = post / np.maximum(pre, _LIMITED_FLOOR)
        gains += is_unknown * _FAR
        return gains.size - int(np.count_nonzero(is_unknown)), gains


class _Spectra:
    """Hann spectra of the same frames.

    Attributes:
        fraction: The part of a sample that POST lies further behind.
    """

    def __init__(self, frames: Signal) -> None:
        """Transform frames ``[2, F, n]``; they are lost."""
        self._samples = frames.shape[2]
        before, self._post = both = alignment.spectra(frames)
        self._power = _power(both)
        self._sums = self._power.sum(axis=1)
        self._pre_level, self._post_level = map(_level, self._sums)
        self._cross = alignment.cross_spectrum(before, self._post)
        self.fraction = alignment.fraction(self._cross, self._samples)

    def replace_pre(self, pre: Signal) -> None:
        """Transform frames of PRE that are delayed; they are lost."""
        spectra = alignment.spectra(pre)
        self._power[0] = _power(spectra)
        self._sums[0] = self._power[0].sum(axis=0)
        self._pre_level = _level(self._sums[0])
        self._cross = alignment.cross_spectrum(spectra, self._post)

    def correlation(self) -> float:
        """Return the signed correlation, 0 where it is larger at another whole lag near."""
        energy = self._pre_level * self._post_level
        product = alignment.peak_product(self._cross, self._samples, self.fraction)
        return product / math.sqrt(energy) if energy else 0.0

    def distance_db(self) -> Column:
        """Return the RMS difference of the spectra in decibels, less that of the level, ``[F]``.

        The level is that of the bucket's speech without direct current; what lies below -80 dB re
        full scale counts as -80 dB. The spectra are lost.
        """
        floor = _floor(self._samples)
        self._power[0] *= np.float32(self._post_level / max(self._pre_level, _TINY))
        nepers, after = np.maximum(self._power, floor, out=self._power)
        nepers /= after
        np.log(nepers, out=nepers)
        mean_square = _products(nepers, nepers) / nepers.shape[1]
        return np.asarray(10.0 / math.log(10.0) * np.sqrt(mean_square))

    def coherence(self) -> Metrics:
        """Return the magnitude-squared coherence of 300 to 3400 Hz, the mean over bins."""
        if self._power.shape[1] < _MIN_SEGMENTS:
            return {}
        pre, post = self._sums[:, _COHERENCE_BINS].astype(np.float64)
        power = pre * post
        count = int(np.count_nonzero(power))
        if not count:
            return {}
        cross = np.abs(self._cross[_COHERENCE_BINS])
        # Where there is no power, nothing is added.
        share = float((cross * cross / np.maximum(power, _NO_POWER)).sum())
        return {"pair.coherence": min(1.0, share / count)}


def _peak(frames: Samples) -> int:
    """Return the largest magnitude."""
    return max(int(frames.max()), -int(frames.min()))


def _level(power: Signal) -> float:
    """Return the power of all bins without direct current."""
    return float(power[alignment.FIRST_BIN :].sum())


@lru_cache(maxsize=8)
def _floor(samples: int) -> np.float32:
    """Return the power in a bin at -80 dB; the bins of a frame add up to its mean square."""
    unit = samples * float(np.square(alignment.window(samples)).sum()) / 2.0
    return np.float32(unit * FULL_SCALE**2 * 10.0 ** (_SPECTRUM_FLOOR_DB / 10.0))


def _power(spectra: Spectra) -> Signal:
    """Return the squared magnitudes."""
    power = np.square(spectra.real)
    power += np.square(spectra.imag)
    return np.asarray(power)


def _products(left: Signal, right: Signal) -> Column:
    """Return the sum of products of each row."""
    return np.asarray(np.vecdot(left, right), np.float64)
