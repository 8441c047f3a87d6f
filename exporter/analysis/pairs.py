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
    samples = rate // FRAMES_PER_SECOND
    speech = pre.starts[pre.speech & inside(pre.starts, samples, pre.ranges)]
    if not speech.size:
        return Comparison()
    taps = Audio(pre.pcm, pre.ranges), Audio(post.pcm, post.ranges)
    lag = alignment.find_lag(*taps, speech=speech, rate=rate, known=known_delay)
    is_known = abs(lag.correlation) >= MIN_CORRELATION
    pair = _Pair(pre, post, samples, lag.samples if is_known else round(known_delay or 0.0))
    sound = pair.sound()
    delay = pair.shift + sound.fraction() if is_known else known_delay or 0.0
    frames, bucket = _measure(pair, sound, delay, silence_dbfs)
    if is_known:
        bucket["pair.delay_ms"] = 1e3 * delay / rate
        bucket["pair.polarity_inverted"] = float(lag.correlation < 0.0)
    correlation = abs(lag.correlation) if post.speech.any() else None
    return Comparison(frames, bucket, correlation, delay if is_known else None)


def _measure(
    pair: _Pair, sound: _Sound, delay: float, silence_dbfs: float
) -> tuple[dict[str, Column], Metrics]:
    """Compute every metric that needs no more than an alignment."""
    bucket = pair.speech_lost(silence_dbfs) | pair.added_silence()
    frames = {"pair.loudness_delta_lu": pair.loudness_delta(delay)}
    if sound.count:
        sound.delay_pre(delay - pair.shift)
        bucket |= sound.coherence() | pair.limited(sound)
        frames["pair.gain_db"] = sound.gain_db()
        frames["pair.segmental_snr_db"] = sound.snr_db()
        frames["pair.log_spectral_distance_db"] = sound.spectral_distance_db()
    return {key: values for key, values in frames.items() if values.size}, bucket


class _Pair:
    """Both taps, POST laid so that its sample ``n + shift`` stands beside PRE's sample n."""

    def __init__(self, pre: Side, post: Side, samples: int, shift: int) -> None:
        self._pre, self._post = pre, post
        self._samples = samples
        self.shift = shift
        is_counted = inside(pre.starts, samples, pre.ranges)
        is_counted &= inside(pre.starts + shift, samples, post.ranges)
        self._counted = pre.starts[is_counted]
        self._speech = np.flatnonzero(is_counted & pre.speech)
        places = pre.starts[self._speech] + shift
        self._beside = rows(post.pcm, places, samples).astype(np.float32)
        self._energy = _products(self._beside, self._beside)

    def sound(self) -> _Sound:
        """Return the speech frames that are digital silence at neither tap."""
        is_heard = (self._energy > 0.0) & (self._pre.rms_dbfs[self._speech] > FLOOR_DBFS)
        heard = slice(None) if is_heard.all() else is_heard
        return _Sound(self._pre.pcm, self._pre.starts[self._speech][heard], self._beside[heard])

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
        half = self._samples // 2
        target = self._pre.starts[self._speech] + round(delay / self._samples) * self._samples
        # One more at the end, for what lies behind the last frame.
        starts = np.append(self._post.starts, np.iinfo(np.int64).max)
        loudness = np.append(self._post.momentary, np.nan)
        nearest = np.searchsorted(starts, target - half)
        delta = loudness[nearest] - self._pre.momentary[self._speech]
        return np.asarray(delta[(starts[nearest] <= target + half) & ~np.isnan(delta)])

    def limited(self, sound: _Sound) -> Metrics:
        """Return the share of samples that the usual gain would carry above POST's peak.

        Where POST is digital silence, a packet is missing, and nothing was limited.
        """
        after = rows(self._post.pcm, self._counted + self.shift, self._samples)
        high, low = after.max(axis=1), after.min(axis=1)
        peak = max(int(high.max()), -int(low.min()))
        gain = sound.usual_gain(peak)
        if not gain:
            return {}
        before = rows(self._pre.pcm, self._counted[(high != 0) | (low != 0)], self._samples)
        # As uint16, the magnitude of -32768 is what it should be.
        is_limited = np.abs(before).view(np.uint16) > int(peak * _LIMITED_RATIO / gain)
        return {"pair.limited_ratio": int(np.count_nonzero(is_limited)) / after.size}


class _Sound:
    """Speech frames of both taps, neither digital silence, aligned to a whole sample at first."""

    def __init__(self, pcm: Samples, starts: Places, post: Signal) -> None:
        self._pcm, self._starts, self._post = pcm, starts, post
        self.count, self._samples = post.shape
        self._pre = rows(pcm, starts, self._samples).astype(np.float32)
        self._pre_spectra = alignment.spectra(self._pre)
        self._post_spectra = alignment.spectra(self._post)
        self._cross = alignment.cross_spectrum(self._pre_spectra, self._post_spectra)

    def fraction(self) -> float:
        """Return the part of a sample that POST lies further behind."""
        return alignment.fraction(self._cross, self._samples)

    def delay_pre(self, by: float) -> None:
        """Delay PRE by part of a sample, and measure."""
        if abs(by) >= alignment.LEAST_FRACTION:
            self._pre = alignment.delayed(self._pcm, self._starts, self._samples, by=by)
            self._pre_spectra = alignment.spectra(self._pre)
            self._cross = alignment.cross_spectrum(self._pre_spectra, self._post_spectra)
        self._pre_power, self._post_power = _power(self._pre_spectra), _power(self._post_spectra)
        self._pre_energy = np.maximum(_products(self._pre, self._pre), _TINY)
        self._post_energy = _products(self._post, self._post)
        self._product = _products(self._pre, self._post)

    def gain_db(self) -> Column:
        """Return level of POST less level of PRE, ``[F]``."""
        return np.asarray(10.0 * np.log10(self._post_energy / self._pre_energy))

    def snr_db(self) -> Column:
        """Return the segmental SNR, PRE under one signed gain being the signal, ``[F]``."""
        gain = self._product.sum() / self._pre_energy.sum()
        signal = gain**2 * self._pre_energy
        noise = self._post_energy - 2.0 * gain * self._product + signal
        ratio = np.maximum(signal, _TINY) / np.maximum(noise, _TINY)
        return np.asarray(np.clip(10.0 * np.log10(ratio), *_SNR_RANGE_DB))

    def spectral_distance_db(self) -> Column:
        """Return the RMS difference of the spectra in decibels, less that of the level, ``[F]``.

        The level is that of the bucket's speech without direct current, which Hann's window puts
        into two bins. The bins of a frame add up to its mean square, full scale is 32768 squared;
        what lies below -80 dB counts as -80 dB.
        """
        pre_level = max(float(self._pre_power[:, 2:].sum(dtype=np.float64)), _TINY)
        post_level = float(self._post_power[:, 2:].sum(dtype=np.float64))
        unit = self._samples * float(np.square(alignment.window(self._samples)).sum()) / 2.0
        floor = np.float32(unit * FULL_SCALE**2 * 10.0 ** (_SPECTRUM_FLOOR_DB / 10.0))
        ratio = np.maximum(self._pre_power * np.float32(post_level / pre_level), floor)
        ratio /= np.maximum(self._post_power, floor)
        nepers = np.log(ratio)
        mean_square = _products(nepers, nepers) / nepers.shape[1]
        return np.asarray(10.0 / math.log(10.0) * np.sqrt(mean_square))

    def coherence(self) -> Metrics:
        """Return the magnitude-squared coherence of 300 to 3400 Hz, the mean over bins."""
        if self.count < _MIN_SEGMENTS:
            return {}
        power = self._pre_power[:, _COHERENCE_BINS].sum(axis=0, dtype=np.float64)
        power *= self._post_power[:, _COHERENCE_BINS].sum(axis=0, dtype=np.float64)
        is_there = power > 0.0
        if not is_there.any():
            return {}
        cross = np.abs(self._cross[_COHERENCE_BINS][is_there]) ** 2
        return {"pair.coherence": min(1.0, float(np.mean(cross / power[is_there])))}

    def usual_gain(self, peak: int) -> float:
        """Return the median of POST / PRE, away from POST's peak; 0 where there is none."""
        pre = np.abs(self._pre[:, ::_MEDIAN_STEP])
        post = np.abs(self._post[:, ::_MEDIAN_STEP])
        is_fit = (pre > _LIMITED_FLOOR) & (post < peak / 2)
        gains = post[is_fit] / pre[is_fit]
        middle = gains.size // 2
        return float(np.partition(gains, middle)[middle]) if gains.size else 0.0


def _power(spectra: Spectra) -> Signal:
    """Return the squared magnitudes."""
    return np.asarray(spectra.real**2 + spectra.imag**2)


def _products(left: Signal, right: Signal) -> Column:
    """Return the sum of products of each row."""
    return np.asarray(np.vecdot(left, right), np.float64)
