"""Where POST lies behind PRE: the search for the delay, and frames delayed by part of a sample.

Three steps, each looking closer, all for the largest absolute correlation. A *coarse* one over
+-500 ms on both signals at about 2 kHz, by FFT, gives a few lags that may be it: voiced speech
resembles itself a pitch period later. A *fine* one, on PRE's speech frames at the full rate, takes
the best whole sample near any of them. The cross spectrum of the frames aligned to that sample
gives the rest: the *fraction* of a sample at which their correlation, interpolated, is largest.
Where the lag known so far still correlates as nothing else can, which its cross spectrum tells as
well, the first two are left out.

Two real signals are transformed as the parts of a complex one, which takes less than one after the
other. Of its spectrum ``Z``, that of the real part is ``(Z[k] + conj Z[-k]) / 2`` and that of the
imaginary part is ``(Z[k] - conj Z[-k]) / 2j``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from scipy import fft

from exporter.compiled import compiled, inlined, read_only
from exporter.model import FRAMES_PER_SECOND

MAX_DELAY_S = 0.5
SURE_CORRELATION = 0.9
"""Over seconds of speech, no other lag comes near this one."""
LEAST_FRACTION = 0.005
"""A smaller part of a sample may stay: the SNR that it costs is beyond 35 dB."""
FIRST_BIN = 2
"""Hann's window puts a direct current into the bins below."""

Samples = npt.NDArray[np.int16]
Signal = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]
Sums = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_COARSE_HZ = 2_000
# Powers of two make the fastest transforms; a factor up to about 20 beside them costs little.
_FFT_STEP = 512
_MAX_CANDIDATES = 4
# A coarse peak lacks what lies above 1 kHz and between coarse samples: those that come near the
# highest are looked at again.
_PEAK_SHARE = 0.6
# How far from a lag others are looked at, to tell that it is a peak.
_BESIDE = 2
# Mean square of a signal at -120 dBFS, about: what is left when a direct current is taken off.
_NOTHING = 1e-3
# PRE is correlated in so many pieces: as many transforms are done side by side.
_BLOCKS = 4
# So much speech, from all over the bucket, is enough to find a lag, or to say that there is none:
# more than 2 s.
_SEARCHED_FRAMES = 150
# Lags whose products are summed side by side.
_TOGETHER = 4
_NEWTON_STEPS = 3
# What is left after a step is about its cube.
_SMALL_STEP = 1e-3
_MAX_FRACTION = 0.75
# What is transformed beside a frame to delay it, at least; rows of 64 samples make it fast.
_MIN_MARGIN = 24
_ROW_STEP = 64

_ZERO, _ONE = np.float32(0.0), np.uint64(1)


class Lag(NamedTuple):
    """A whole number of samples that POST lies behind PRE, and the signed correlation there."""

    samples: int
    correlation: float


class Audio(NamedTuple):
    """One tap: int16 ``[N]``, 0 in gaps; and where audio is, int64 ``[pieces, 2]``."""

    pcm: Samples
    ranges: Places


def find_lag(pre: Audio, post: Audio, *, speech: Places, rate: int) -> Lag:
    """Find the lag of POST behind PRE, in whole samples, with the largest absolute correlation.

    Args:
        pre: The tap PRE; its mean and that of ``post`` are taken off.
        post: The tap POST.
        speech: First samples of PRE's speech frames, int64 ``[F]``.
        rate: Samples a second.

    Returns:
        A lag within +-500 ms and its correlation on the speech frames, which is 0 when nothing
        correlates, such as at a tap without sound.
    """
    samples, factor, limit = rate // FRAMES_PER_SECOND, rate // _COARSE_HZ, _limit(rate)
    slow = np.empty((2, pre.pcm.size // factor), np.float32)
    means = np.array([_decimate(*pre, factor, slow[0]), _decimate(*post, factor, slow[1])])
    # One coarse step more: a peak at the limit may round to it.
    lags = _coarse_lags(slow, limit // factor + 1)
    some = np.ascontiguousarray(speech[:: 1 + len(speech) // _SEARCHED_FRAMES])
    best, correlations = Lag(0, 0.0), np.empty(2 * factor + 1)
    for lag in lags:
        centre = max(factor - limit, min(lag * factor, limit - factor))
        _correlate(pre.pcm, post.pcm, some, means, samples, centre - factor, correlations)
        where = int(np.abs(correlations).argmax())
        correlation = max(-1.0, min(float(correlations[where]), 1.0))
        if abs(correlation) > abs(best.correlation):
            best = Lag(centre - factor + where, correlation)
    return best


def is_within(lag: int, rate: int) -> bool:
    """Tell whether a lag, and those beside it, are ones that a search can find."""
    return abs(lag) + _BESIDE <= _limit(rate)


def _limit(rate: int) -> int:
    """Return the largest lag: a sample less than 500 ms, for a fraction may follow."""
    return int(MAX_DELAY_S * rate) - 1


@compiled(
    types.float64(
        read_only(types.int16), read_only(types.int64, 2), types.int64, types.float32[::1]
    )
)
def _decimate(pcm: Samples, ranges: Places, factor: int, slow: Signal) -> float:
    """Sum each ``factor`` samples, less the mean, into ``slow``; return the mean.

    A direct current at both taps is no resemblance; a gap stays 0.
    """
    total, there, at = 0.0, 0, np.uint64(0)
    for i in range(slow.size):
        part = _ZERO
        for _ in range(factor):
            part += np.float32(pcm[at])
            at += _ONE
        slow[i] = part
        total += float(part)
    for i in range(len(ranges)):
        there += min(ranges[i, 1], slow.size * factor) - min(ranges[i, 0], slow.size * factor)
    mean = total / max(1, there)
    for i in range(len(ranges)):
        piece = slow[ranges[i, 0] // factor : ranges[i, 1] // factor]
        for j in range(piece.size):
            piece[j] -= np.float32(factor * mean)
    return mean


def _coarse_lags(slow: Signal, reach: int) -> list[int]:
    """Return the lags of the highest peaks of the absolute cross-correlation, at most four.

    Each block of PRE meets the stretch of POST that it can reach, and one lag more: several rows
    are far quicker to transform than one that is as long as all.
    """
    length = -(-slow.shape[1] // _BLOCKS)
    size = -(-(length + 2 * (reach + 1)) // _FFT_STEP) * _FFT_STEP
    both = np.empty((_BLOCKS, size), np.complex64)
    _lay_blocks(slow, length, reach + 1, both)
    cross = np.empty(size // 2 + 1, np.complex64)
    _cross_blocks(np.asarray(fft.fft(both, overwrite_x=True), np.complex64), cross)
    lags = np.empty(_MAX_CANDIDATES, np.int64)
    products = np.asarray(fft.irfft(cross, size), np.float32)[: 2 * reach + 3]
    count = _highest_peaks(products, lags)
    return [lag - reach for lag in lags[:count].tolist()]


@compiled(types.void(types.float32[:, ::1], types.int64, types.int64, types.complex64[:, ::1]))
def _lay_blocks(slow: Signal, length: int, reach: int, both: Spectra) -> None:
    """Lay blocks of PRE into real parts, and what surrounds each of POST into imaginary parts."""
    pre, post = slow[0], slow[1]
    both[:] = 0.0
    for i in range(len(both)):
        first = i * length
        block, row = pre[first : first + length], both[i]
        for j in range(block.size):
            row[j] = block[j]
        missing = max(0, reach - first)
        stretch = post[first - reach + missing : first + length + reach]
        row = row[missing:]
        for j in range(stretch.size):
            row[j] += complex(_ZERO, stretch[j])


@compiled(types.void(types.complex64[:, ::1], types.complex64[::1]))
def _cross_blocks(both: Spectra, cross: Spectra) -> None:
    """Sum ``conj(PRE) POST`` of transformed blocks ``[B, n]``, times four: ``[n // 2 + 1]``."""
    cross[:] = 0.0
    for i in range(len(both)):
        row = both[i]
        n = np.uint64(row.size)
        cross[0] += np.float32(4.0) * row[0].real * row[0].imag
        for k in range(_ONE, np.uint64(cross.size)):
            a, b = row[k], row[n - k]
            real = a.real * b.imag + a.imag * b.real
            left, right = a.real * a.real + a.imag * a.imag, b.real * b.real + b.imag * b.imag
            cross[k] += complex(real + real, right - left)


@compiled(types.int64(types.float32[::1], types.int64[::1]))
def _highest_peaks(products: Signal, peaks: Places) -> int:
    """Find the highest peaks between the ends of ``products``, by their absolute heights.

    Returns:
        How many, in ``peaks``: places counted from the second product on.
    """
    highest, count = _ZERO, 0
    for i in range(1, products.size - 1):
        highest = max(highest, abs(products[i]))
    for i in range(1, products.size - 1):
        height = abs(products[i])
        is_peak = height >= abs(products[i - 1]) and height >= abs(products[i + 1])
        if not is_peak or height <= 0.0 or height < _PEAK_SHARE * highest:
            continue
        place = count
        while place and height > abs(products[peaks[place - 1] + 1]):
            if place < peaks.size:
                peaks[place] = peaks[place - 1]
            place -= 1
        if place < peaks.size:
            peaks[place] = i - 1
            count = min(count + 1, peaks.size)
    return count


@compiled(
    types.void(
        *(read_only(types.int16), read_only(types.int16), read_only(types.int64)),
        *(types.float64[::1], types.int64, types.int64, types.float64[::1]),
    )
)
def _correlate(  # noqa: PLR0913 - a loop takes arrays
    pre: Samples,
    post: Samples,
    starts: Places,
    means: Sums,
    samples: int,
    lag: int,
    correlations: Sums,
) -> None:
    """Correlate PRE's speech frames with POST at the lags from ``lag`` on, float64 ``[lags]``.

    POST's energy is that at the middle lag. Speech that has no partner in the bucket counts as
    unlike: a few frames prove little.
    """
    lags = correlations.size
    products = np.zeros(-(-lags // _TOGETHER) * _TOGETHER)
    frame, around = np.empty(samples, np.float32), np.zeros(samples + products.size, np.float32)
    pre_energy = post_energy = 0.0
    for i in range(starts.size):
        _centre(pre[starts[i] : starts[i] + samples], means[0], frame)
        pre_energy += float(_energy(frame))
        first = starts[i] + lag
        stop = first + samples + lags - 1
        if first >= 0 and stop <= post.size:
            _centre(post[first:stop], means[1], around)
            post_energy += float(_energy(around[lags // 2 : lags // 2 + samples]))
            _add_products(frame, around, products)
    is_sound = min(pre_energy, post_energy) > _NOTHING * samples * starts.size
    for k in range(lags):
        energy = math.sqrt(pre_energy * post_energy)
        correlations[k] = products[k] / energy if is_sound else 0.0


@inlined
def _centre(frame: Samples, mean: float, centred: Signal) -> None:
    for i in range(frame.size):
        centred[i] = np.float32(frame[i]) - np.float32(mean)


@inlined
def _energy(frame: Signal) -> np.float32:
    """Sum the squares."""
    total = _ZERO
    for i in range(frame.size):
        total += frame[i] * frame[i]
    return total


@inlined
def _add_products(frame: Signal, around: Signal, products: Sums) -> None:
    """Add the products of a frame with what stands around its place, at each lag."""
    n = frame.size
    for lag in range(0, products.size, _TOGETHER):
        a, b = around[lag : lag + n], around[lag + 1 : lag + 1 + n]
        c, d = around[lag + 2 : lag + 2 + n], around[lag + 3 : lag + 3 + n]
        sum_a = sum_b = sum_c = sum_d = _ZERO
        for i in range(n):
            x = frame[i]
            sum_a += x * a[i]
            sum_b += x * b[i]
            sum_c += x * c[i]
            sum_d += x * d[i]
        products[lag] += sum_a
        products[lag + 1] += sum_b
        products[lag + 2] += sum_c
        products[lag + 3] += sum_d


@compiled(types.float64(types.complex64[::1], types.int64))
def fraction(cross: Spectra, length: int) -> float:
    """Find the lag, in parts of a sample, at which the correlation of aligned frames is largest.

    Newton's method on the real part of ``sum S(w) exp(jwt)`` from ``t = 0``, where S is the cross
    spectrum; the sign of the correlation does not matter.

    Args:
        cross: Cross spectrum of the frames, ``[length // 2 + 1]``.
        length: Samples of a frame.
    """
    step, lag = 2.0 * math.pi / length, 0.0
    for _ in range(_NEWTON_STEPS):
        slope = bend = 0.0
        for k in range(cross.size):
            omega = step * k
            turned = cross[k] * complex(math.cos(omega * lag), math.sin(omega * lag))
            slope += omega * turned.imag
            bend += omega * omega * turned.real
        move = slope / bend if bend else 0.0
        lag = max(-_MAX_FRACTION, min(lag - move, _MAX_FRACTION))
        if abs(move) < _SMALL_STEP:
            break
    return lag


@compiled(types.float64(types.complex64[::1], types.int64, types.float64))
def peak_product(cross: Spectra, length: int, fraction: float) -> float:
    """Return the signed product of aligned frames without direct current.

    It is 0 where another lag beside theirs is the peak.

    Args:
        cross: Cross spectrum of the frames, ``[length // 2 + 1]``.
        length: Samples of a frame.
        fraction: As ``fraction`` found it.
    """
    step = 2.0 * math.pi * _BESIDE / length
    before = here = after = 0.0
    for k in range(FIRST_BIN, cross.size):
        even = cross[k].real * math.cos(step * k)
        odd = cross[k].imag * math.sin(step * k)
        before, here, after = before + even + odd, here + cross[k].real, after + even - odd
    is_peak = abs(fraction) < _MAX_FRACTION and abs(here) >= max(abs(before), abs(after))
    return here if is_peak else 0.0


def delayed(pcm: Samples, starts: Places, length: int, *, by: float) -> Signal:
    """Cut frames out of a signal that is delayed by part of a sample.

    Each frame is turned in phase together with what lies beside it, which is faded out, so that
    the ends of the transform do not meet in a step.

    Args:
        pcm: int16 ``[N]``.
        starts: First samples of the frames, int64 ``[F]``, at least one.
        length: Samples of a frame.
        by: Delay in samples, -1 to 1.

    Returns:
        float32 ``[F, length]``.
    """
    size = -(-(length + 2 * _MIN_MARGIN) // _ROW_STEP) * _ROW_STEP
    margin = (size - length) // 2
    wide = np.empty((-(-starts.size // 2), size), np.complex64)
    _widen(pcm, starts, margin, _fade(size, margin), wide)
    turned = fft.fft(wide, overwrite_x=True)
    _turn(turned, by)
    frames = np.empty((starts.size, length), np.float32)
    _narrow(fft.ifft(turned, overwrite_x=True), margin, frames)
    return frames


@lru_cache(maxsize=8)
def _fade(size: int, margin: int) -> Signal:
    """Return what fades a row in and out; read-only, for all share it."""
    fade = np.ones(size, np.float32)
    fade[:margin] = np.sin(np.pi / 2.0 * np.arange(margin) / margin) ** 2
    fade[size - margin :] = fade[:margin][::-1]
    fade.flags.writeable = False
    return fade


@compiled(
    types.void(
        read_only(types.int16),
        read_only(types.int64),
        types.int64,
        read_only(types.float32),
        types.complex64[:, ::1],
    )
)
def _widen(pcm: Samples, starts: Places, margin: int, fade: Signal, wide: Spectra) -> None:
    """Lay two frames each, with their margins, into the two parts of a row, faded."""
    even, odd = np.empty(fade.size, np.float32), np.empty(fade.size, np.float32)
    for i in range(len(wide)):
        _cut(pcm, starts[2 * i] - margin, fade, even)
        # The last of an odd number meets itself.
        _cut(pcm, starts[min(2 * i + 1, starts.size - 1)] - margin, fade, odd)
        row = wide[i]
        for j in range(row.size):
            row[j] = complex(even[j], odd[j])


@inlined
def _cut(pcm: Samples, first: int, fade: Signal, out: Signal) -> None:
    """Copy what is faded, from a place on that may lie outside, where there is silence."""
    missing = max(0, -first)
    there = pcm[first + missing : first + out.size]
    out[:missing] = _ZERO
    out[missing + there.size :] = _ZERO
    part, weights = out[missing:], fade[missing:]
    for i in range(there.size):
        part[i] = np.float32(there[i]) * weights[i]


@compiled(types.void(types.complex64[:, ::1], types.float64))
def _turn(spectra: Spectra, by: float) -> None:
    """Delay rows ``[R, n]``, n even, by so many samples."""
    size = spectra.shape[1]
    turn = np.empty(size, np.complex64)
    for k in range(size):
        angle = 2.0 * math.pi * by / size * (k if k < size // 2 else k - size)
        # What is at half the rate stays real.
        sine = math.sin(angle) if 2 * k != size else 0.0
        turn[k] = complex(math.cos(angle), -sine)
    for i in range(len(spectra)):
        row = spectra[i]
        for k in range(size):
            row[k] *= turn[k]


@compiled(types.void(types.complex64[:, ::1], types.int64, types.float32[:, ::1]))
def _narrow(wide: Spectra, margin: int, frames: Signal) -> None:
    """Take the frames out of the rows that ``_widen`` laid."""
    for i in range(len(frames)):
        frame, row = frames[i], wide[i // 2, margin : margin + frames.shape[1]]
        if i % 2:
            for j in range(frame.size):
                frame[j] = row[j].imag
        else:
            for j in range(frame.size):
                frame[j] = row[j].real
