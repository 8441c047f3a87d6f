"""Where POST lies behind PRE: the search for the delay, and frames delayed by part of a sample.

Three steps, each looking closer, all for the largest absolute correlation. A *coarse* one over
+-500 ms on both signals at about 2 kHz, by FFT, gives a few lags that may be it: voiced speech
resembles itself a pitch period later. A *fine* one, on PRE's speech frames at the full rate, takes
the best whole sample near any of them. The cross spectrum of the frames aligned to that sample
gives the rest: the *fraction* of a sample at which their correlation, interpolated, is largest.
Where the lag known so far still correlates as nothing else can, which its cross spectrum tells as
well, the first two are left out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided
from scipy import fft

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
Cross = npt.NDArray[np.complex128]
Places = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]
Ranges = tuple[tuple[int, int], ...]

_COARSE_HZ = 2_000
# Powers of two make the fastest transforms; a factor up to about 20 beside them costs little.
_FFT_STEP = 1_024
_MAX_CANDIDATES = 4
# A coarse peak lacks what lies above 1 kHz and between coarse samples: those that come near the
# highest are looked at again.
_PEAK_SHARE = 0.6
# How far from a lag others are looked at, to tell that it is a peak.
_BESIDE = 2
# Mean square of a signal at -120 dBFS, about: what is left when a direct current is taken off.
_NOTHING = 1e-3
# A matrix times a vector is taken in so many, or OpenBLAS would wake its threads.
_PRODUCTS = 40
# PRE is correlated in so many pieces.
_BLOCKS = 4
# So much speech, from all over the bucket, is enough to find a lag, or to say that there is none:
# more than 2 s.
_SEARCHED_FRAMES = 150
_NEWTON_STEPS = 3
# What is left after a step is about its cube.
_SMALL_STEP = 1e-3
_MAX_FRACTION = 0.75
# What is transformed beside a frame to delay it, at least; rows of 64 samples make it fast.
_MIN_MARGIN = 24
_ROW_STEP = 64


class Audio(NamedTuple):
    """One tap: int16 ``[N]``, 0 in gaps; and where audio is, as ``inside`` takes it."""

    pcm: Samples
    ranges: Ranges


class Lag(NamedTuple):
    """A whole number of samples that POST lies behind PRE, and the signed correlation there."""

    samples: int
    correlation: float


def rows(pcm: Samples, starts: Places, length: int) -> Samples:
    """Take the stretches of ``length`` samples from ``starts`` on: int16 ``[starts, length]``.

    Those that lie one directly behind the other, as most do, are not copied.

    Args:
        pcm: int16 ``[N]``.
        starts: Rising, int64 ``[F]``.
        length: Samples of a stretch.
    """
    if starts.size and starts[-1] - starts[0] == (starts.size - 1) * length:
        return pcm[starts[0] : starts[-1] + length].reshape(-1, length)
    every = np.ndarray((pcm.size - length + 1, length), pcm.dtype, pcm, 0, 2 * pcm.strides)
    return np.asarray(every[starts])


def inside(starts: Places, length: int, ranges: Ranges) -> Truths:
    """Tell which stretches of ``length`` samples from ``starts`` on lie within one of ``ranges``.

    Args:
        starts: int64 ``[F]``.
        length: Samples of a stretch.
        ranges: First sample, and the one after the last, of each piece of audio, in order.
    """
    if not ranges:
        return np.zeros(starts.shape, np.bool_)
    if len(ranges) == 1:  # as most often
        return np.asarray((starts >= ranges[0][0]) & (starts <= ranges[0][1] - length))
    first, stop = np.array(ranges, np.int64).T
    is_apart = first[1:] > stop[:-1]
    first, stop = first[np.r_[True, is_apart]], stop[np.r_[is_apart, True]]
    piece = np.searchsorted(first, starts, side="right") - 1
    return np.asarray((piece >= 0) & (starts + length <= stop[piece]))


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
    factor, limit = rate // _COARSE_HZ, _limit(rate)
    (pre_slow, pre_mean), (post_slow, post_mean) = (_decimated(tap, factor) for tap in (pre, post))
    # One coarse step more: a peak at the limit may round to it.
    lags = _coarse_lags(pre_slow, post_slow, limit // factor + 1)
    centres = (max(factor - limit, min(lag * factor, limit - factor)) for lag in lags)
    some = speech[:: 1 + len(speech) // _SEARCHED_FRAMES]
    frames = _centred(rows(pre.pcm, some, rate // FRAMES_PER_SECOND), pre_mean)
    fine = _FineSearch(frames, some, post.pcm, post_mean)
    found = (fine.best(centre, factor) for centre in centres)
    return max(found, key=lambda lag: abs(lag.correlation), default=Lag(0, 0.0))


def is_within(lag: int, rate: int) -> bool:
    """Tell whether a lag, and those beside it, are ones that a search can find."""
    return abs(lag) + _BESIDE <= _limit(rate)


def peak_product(cross: Cross, length: int, fraction: float) -> float:
    """Return the signed product of aligned frames without direct current.

    It is 0 where another lag beside theirs is the peak.

    Args:
        cross: Cross spectrum of the frames, ``[length // 2 + 1]``.
        length: Samples of a frame.
        fraction: As ``fraction`` found it.
    """
    products = (_turns(length) @ cross[FIRST_BIN:]).real
    middle = float(products[1])
    is_peak = abs(fraction) < _MAX_FRACTION and abs(middle) >= np.abs(products).max()
    return middle if is_peak else 0.0


def fraction(cross: Cross, length: int) -> float:
    """Find the lag, in parts of a sample, at which the correlation of aligned frames is largest.

    Newton's method on the real part of ``sum S(w) exp(jwt)`` from ``t = 0``, where S is the cross
    spectrum; the sign of the correlation does not matter.

    Args:
        cross: Cross spectrum of the frames, ``[length // 2 + 1]``.
        length: Samples of a frame.
    """
    omega = _omega(length)
    slope = omega * cross
    lag = 0.0
    for _ in range(_NEWTON_STEPS):
        turned = slope * np.exp(1j * lag * omega) if lag else slope
        bend = float(np.dot(omega, turned.real))
        if not bend:
            break
        step = float(turned.imag.sum()) / bend
        lag = max(-_MAX_FRACTION, min(lag - step, _MAX_FRACTION))
        if abs(step) < _SMALL_STEP:
            break
    return lag


def spectra(frames: Signal) -> Spectra:
    """Transform frames ``[..., n]``, which are lost, under Hann's window: ``[..., n // 2 + 1]``."""
    frames *= window(frames.shape[-1])
    return np.asarray(fft.rfft(frames, overwrite_x=True))


def cross_spectrum(pre: Spectra, post: Spectra) -> Cross:
    """Sum ``conj(PRE) POST`` over frames: ``[n // 2 + 1]``; what is in ``pre`` is lost."""
    product = np.conjugate(pre, out=pre)
    product *= post
    return np.asarray(product.sum(axis=0), np.complex128)


@lru_cache(maxsize=8)
def window(samples: int) -> Signal:
    """Return Hann's window, periodic; read-only, for all share it."""
    hann = np.hanning(samples + 1)[:-1].astype(np.float32)
    hann.flags.writeable = False
    return hann


@lru_cache(maxsize=8)
def _omega(length: int) -> npt.NDArray[np.float64]:
    """Return the frequency of each bin, in radians a sample; read-only, for all share it."""
    omega = 2.0 * np.pi / length * np.arange(length // 2 + 1)
    omega.flags.writeable = False
    return np.asarray(omega)


@lru_cache(maxsize=8)
def _turns(length: int) -> Cross:
    """Return what makes of a cross spectrum the products at lag 0, between those beside it."""
    turns = np.exp(1j * np.array([[-_BESIDE], [0], [_BESIDE]]) * _omega(length)[FIRST_BIN:])
    turns.flags.writeable = False
    return np.asarray(turns)


def delayed(pcm: Samples, starts: Places, length: int, *, by: float) -> Signal:
    """Cut frames out of a signal that is delayed by part of a sample.

    Each frame is turned in phase together with what lies beside it, which is faded out, so that
    the ends of the transform do not meet in a step.

    Args:
        pcm: int16 ``[N]``.
        starts: First samples of the frames, int64 ``[F]``.
        length: Samples of a frame.
        by: Delay in samples, -1 to 1.

    Returns:
        float32 ``[F, length]``.
    """
    size = -(-(length + 2 * _MIN_MARGIN) // _ROW_STEP) * _ROW_STEP
    margin = (size - length) // 2
    edge = np.zeros(size - length, np.int16)
    wide = rows(np.concatenate((edge[:margin], pcm, edge)), starts, size).astype(np.float32)
    fade = np.sin(np.pi / 2.0 * np.arange(margin) / margin).astype(np.float32) ** 2
    wide[:, :margin] *= fade
    wide[:, size - margin :] *= fade[::-1]
    turned = fft.rfft(wide, overwrite_x=True)
    turn = np.exp(-2j * np.pi / size * by * np.arange(turned.shape[1]))
    turned *= turn.astype(np.complex64)
    return np.asarray(fft.irfft(turned, size, overwrite_x=True)[:, margin : margin + length])


def _limit(rate: int) -> int:
    """Return the largest lag: a sample less than 500 ms, for a fraction may follow."""
    return int(MAX_DELAY_S * rate) - 1


def _centred(frames: Samples, mean: np.float32) -> Signal:
    real = frames.astype(np.float32)
    real -= mean
    return real


def _decimated(audio: Audio, factor: int) -> tuple[Signal, np.float32]:
    """Sum each ``factor`` samples, less the mean; return the mean, too.

    A direct current at both taps is no resemblance; a gap stays 0.
    """
    size = audio.pcm.size // (factor * _PRODUCTS) * _PRODUCTS
    stop_at = size * factor
    whole = audio.pcm[:stop_at].astype(np.float32).reshape(_PRODUCTS, -1, factor)
    slow = np.asarray(whole @ np.ones(factor, np.float32)).reshape(size)
    there = sum(min(stop, stop_at) - min(first, stop_at) for first, stop in audio.ranges)
    mean = np.float32(float(slow.sum()) / max(1, there))
    for first, stop in audio.ranges:
        slow[first // factor : stop // factor] -= factor * mean
    return slow, mean


def _coarse_lags(pre: Signal, post: Signal, reach: int) -> list[int]:
    """Return the lags of the highest peaks of the absolute cross-correlation, at most four."""
    height = np.abs(_correlated(pre, post, reach + 1))
    middle = height[1:-1]
    is_peak = (middle >= height[:-2]) & (middle >= height[2:])
    is_peak &= (middle > 0.0) & (middle >= _PEAK_SHARE * middle.max())
    peaks = np.flatnonzero(is_peak)
    highest = peaks[np.argsort(-middle[peaks], kind="stable")[:_MAX_CANDIDATES]]
    return [int(peak) - reach for peak in highest]


def _correlated(pre: Signal, post: Signal, reach: int) -> Signal:
    """Return the products of PRE with POST at the lags from ``-reach`` to ``reach``.

    Each block of PRE meets the stretch of POST that it can reach: several rows are far quicker to
    transform than one that is as long as all.
    """
    length = -(-pre.size // _BLOCKS)
    size = -(-(length + 2 * reach) // _FFT_STEP) * _FFT_STEP
    wide = np.zeros(_BLOCKS * length + 2 * reach, np.float32)
    wide[reach : reach + post.size] = post
    both = np.zeros((2, _BLOCKS, size), np.float32)
    for number, (block, stretch) in enumerate(zip(*both, strict=True)):
        first = number * length
        part = pre[first : first + length]
        block[: part.size] = part
        stretch[: length + 2 * reach] = wide[first : first + length + 2 * reach]
    before, after = fft.rfft(both, overwrite_x=True)
    return np.asarray(fft.irfft((before.conj() * after).sum(axis=0), size)[: 2 * reach + 1])


class _FineSearch:
    """Correlates PRE's speech frames with POST at the lags near a given one."""

    def __init__(self, frames: Signal, starts: Places, post: Samples, mean: np.float32) -> None:
        self._frames, self._starts = frames, starts
        self._energy = _energy(frames)
        self._post, self._mean = post, mean

    def best(self, lag: int, reach: int) -> Lag:
        """Return the lag within ``lag +- reach`` whose absolute correlation is largest.

        Speech that has no partner in the bucket counts as unlike: a few frames prove little.
        """
        samples = self._frames.shape[1]
        places = self._starts + (lag - reach)
        is_there = (places >= 0) & (places + samples + 2 * reach <= self._post.size)
        around = _centred(rows(self._post, places[is_there], samples + 2 * reach), self._mean)
        energy = _energy(around[:, reach : reach + samples])
        if min(energy, self._energy) <= _NOTHING * self._frames.size:
            return Lag(lag, 0.0)
        frames = self._frames if is_there.all() else self._frames[is_there]
        products = _products(frames, around)
        where = int(np.abs(products).argmax())
        correlation = float(products[where]) / math.sqrt(energy * self._energy)
        return Lag(lag - reach + where, max(-1.0, min(correlation, 1.0)))


def _energy(frames: Signal) -> float:
    """Sum the squares."""
    return float(np.vecdot(frames, frames).sum(dtype=np.float64))


def _products(frames: Signal, around: Signal) -> npt.NDArray[np.float64]:
    """Sum the products of ``[F, n]`` with each stretch of ``[F, n + lags - 1]``: ``[lags]``."""
    (count, length), (down, right) = frames.shape, around.strides
    shape = (count, around.shape[1] - length + 1, length)
    shifted = as_strided(around, shape, (down, right, right), writeable=False)
    return np.asarray(np.vecdot(shifted, frames[:, None, :]).sum(axis=0, dtype=np.float64))
