"""All measurements of frames: many taps at a time, one family of metrics after the other.

A row of the result is a frame; its columns are ``FRAME_METRICS`` and, behind them, the energy of
the loudness gating block that ends with this frame. NaN is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, compress

import numpy as np

from exporter.analysis import spectrum, timedomain, voice
from exporter.analysis.frames import Matrix, Stretch
from exporter.analysis.loudness import Loudness, Reading
from exporter.breath import Breath
from exporter.metrics import COLUMNS, FRAME_METRICS, TIME_METRICS
from exporter.model import FRAMES_PER_SECOND

GATING_BLOCK = len(FRAME_METRICS)
WIDTH = GATING_BLOCK + 1

_SPECTRAL = slice(len(TIME_METRICS), len(TIME_METRICS) + len(spectrum.KEYS))
_VOICE = slice(_SPECTRAL.stop, _SPECTRAL.stop + 3)
_LOUDNESS = slice(_VOICE.stop, WIDTH)
_HEARD = {
    "rms_dbfs": COLUMNS["pcm.rms_dbfs"],
    "peak_amplitude": COLUMNS["pcm.peak_amplitude"],
    "flatness": COLUMNS["fft.spectral_flatness"],
    "harmonic_ratio": COLUMNS["fft.harmonic_ratio"],
    "low_band": COLUMNS["fft.low_band_energy"],
    "mid_band": COLUMNS["fft.mid_band_energy"],
    "high_band": COLUMNS["fft.high_band_energy"],
}
"""What the voice decision takes."""
# The time between two pauses: an audio thread that wakes on the same core waits for as long.
PORTION_ROWS = 250


class Analyzer:
    """Measures frames of all taps together.

    Args:
        silence_dbfs: A frame whose level lies below is silent.
        breath: Lets the audio threads in between.
    """

    def __init__(self, silence_dbfs: float, breath: Breath) -> None:
        self._silence_dbfs = silence_dbfs
        self._breath = breath
        self._loudness: dict[int, Loudness] = {}

    def measure(self, stretches: Sequence[Stretch]) -> list[Matrix]:
        """Measure stretches; those of one tap stand in the order of time.

        Returns:
            float64 ``[frames, WIDTH]`` for each stretch.
        """
        found: dict[int, Matrix] = {}
        for turn in _turns(stretches):
            for rate in {stretches[index].rate for index in turn}:
                indices = [index for index in turn if stretches[index].rate == rate]
                for some, counts in _portions(stretches, indices):
                    rows = self._measure_once([stretches[index] for index in some], counts, rate)
                    found.update(zip(some, rows, strict=True))
                    self._breath.take()
        return [found[index] for index in range(len(stretches))]

    def glance(self, pcm: bytes, rate: int) -> Matrix:
        """Measure frames that have no place yet: only what a frame tells by itself."""
        frames = np.frombuffer(pcm, "<i2").reshape(-1, rate // FRAMES_PER_SECOND)
        rows = np.full((len(frames), WIDTH), np.nan)
        rows[:, : len(TIME_METRICS)] = timedomain.measure(frames, self._silence_dbfs)
        return rows

    def _measure_once(self, stretches: list[Stretch], counts: list[int], rate: int) -> list[Matrix]:
        """Measure stretches of different taps of one rate, of so many frames."""
        for stretch in stretches:
            stretch.memory.go_to(stretch.position, stretch.frame_samples)
        pcm = b"".join(chain.from_iterable(stretch.pcm for stretch in stretches))
        frames = np.frombuffer(pcm, "<i2").reshape(-1, rate // FRAMES_PER_SECOND)
        ends = list(accumulate(counts))
        rows = np.empty((len(frames), WIDTH))
        rows[:, : len(TIME_METRICS)] = timedomain.measure(frames, self._silence_dbfs)
        loudness = self._loudness_at(rate)
        rows[:, _SPECTRAL], reading = _spectra(stretches, frames, counts, rate, loudness)
        rows[:, _VOICE] = _voice(stretches, counts, rows)
        memories = [stretch.memory.loudness for stretch in stretches]
        rows[:, _LOUDNESS] = loudness.measure(frames, counts, memories, reading)
        for stretch, count, end in zip(stretches, counts, ends, strict=True):
            stretch.memory.last_frame = frames[end - 1].tobytes()
            stretch.memory.next_position = stretch.position + count * stretch.frame_samples
        return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def _loudness_at(self, rate: int) -> Loudness:
        if rate not in self._loudness:
            self._loudness[rate] = Loudness(rate)
        return self._loudness[rate]


def _turns(stretches: Sequence[Stretch]) -> Iterator[list[int]]:
    """Part stretches so that each tap comes once in a turn; nearly always one turn."""
    left = list(range(len(stretches)))
    while left:
        seen: set[int] = set()
        turn: list[int] = []
        for index in left:
            memory = id(stretches[index].memory)
            if memory not in seen:
                seen.add(memory)
                turn.append(index)
        chosen = set(turn)
        left = [index for index in left if index not in chosen]
        yield turn


def _portions(
    stretches: Sequence[Stretch], indices: list[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Part stretches so that what is measured in one go stays small, however much has piled up.

    Yields:
        Which stretches these are, and the frames of each.
    """
    portion: list[int] = []
    counts: list[int] = []
    size = 0
    for index in indices:
        stretch = stretches[index]
        count = (stretch.end - stretch.position) // stretch.frame_samples
        portion.append(index)
        counts.append(count)
        size += count
        if size >= PORTION_ROWS:
            yield portion, counts
            portion, counts, size = [], [], 0
    if portion:
        yield portion, counts


def _spectra(
    stretches: list[Stretch],
    frames: spectrum.Frames,
    counts: list[int],
    rate: int,
    loudness: Loudness,
) -> tuple[Matrix, Reading | None]:
    """Measure the spectra, each tap's frames behind the one before them.

    Returns:
        The metrics; what the loudness reads of the frames, where all are transformed.
    """
    wanted = np.array([stretch.has_spectrum for stretch in stretches])
    if wanted.all():
        reading = loudness.reading(len(frames))
        return _transformed(stretches, frames, counts, rate, reading.read), reading
    result = np.full((len(frames), len(spectrum.KEYS)), np.nan)
    if wanted.any():
        rows = np.repeat(wanted, counts)
        some = list(compress(stretches, wanted))
        result[rows] = _transformed(some, frames[rows], list(compress(counts, wanted)), rate, None)
    return result, None


def _transformed(
    stretches: list[Stretch],
    frames: spectrum.Frames,
    counts: list[int],
    rate: int,
    also: spectrum.Reader | None,
) -> Matrix:
    """Measure the spectra of stretches that all want them."""
    before = [stretch.memory.last_frame for stretch in stretches]
    is_known = np.array([bool(each) for each in before])
    firsts = np.cumsum(counts) - counts
    follows = np.ones(len(frames), np.bool_)
    follows[firsts] = is_known
    last = np.frombuffer(b"".join(before), "<i2").reshape(-1, frames.shape[1])
    return spectrum.measure(frames, follows, rate, spectrum.Before(firsts[is_known], last), also)


def _voice(stretches: list[Stretch], counts: list[int], rows: Matrix) -> Matrix:
    """Measure noise floor, SNR and voice; without a spectrum only the noise floor is known."""
    columns = voice.Columns(**{name: rows[:, column] for name, column in _HEARD.items()})
    found = voice.measure(columns, counts, [stretch.memory.voice for stretch in stretches])
    is_known = [stretch.has_spectrum for stretch in stretches]
    if not all(is_known):
        found[~np.repeat(is_known, counts), 1:] = np.nan
    return found
