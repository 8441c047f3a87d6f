"""Recordings with pauses marked by hand, and scenes made of them: speech in noise, with truth.

The recordings are from Debian's asterisk-core-sounds packages. The borders were set by eye on
waveform and spectrogram, 3.3 ms a column, and checked against the level in steps of 5 ms; they are
good to 20 to 50 ms. A pause is 150 ms or more in which nothing is said: it begins where the voice
and its echo have faded (about 33 dB below the active level) and ends where the next sound begins.
Fricatives, and bursts that belong to a word, are speech, and so are closures within words, which
last up to 150 ms. What stands between the pauses is speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import webrtcvad
from scipy.signal import resample_poly

from exporter.analysis.activelevel import active_level
from tests.fix_speech import read

PAGE = Path(__file__).parents[1] / "docs" / "voice.md"
SOUNDS = Path("/usr/share/asterisk/sounds")
COLLAR = 0.06
LEAD_S = 2
KINDS = ("white", "pink", "babble")

Samples = npt.NDArray[np.int16]
Real = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

PAUSES: dict[str, tuple[tuple[float, float], ...]] = {
    "en_US_f_Allison/demo-congrats.wav": (
        *((0.00, 0.26), (1.41, 1.57), (7.11, 7.35), (12.16, 12.33), (14.05, 14.23)),
        *((15.69, 15.89), (19.24, 19.56), (23.61, 23.78), (25.04, 25.21), (25.81, 26.12)),
        *((30.07, 30.28),),
    ),
    "en_US_f_Allison/demo-instruct.wav": (
        *((0.00, 0.82), (5.18, 5.41), (9.52, 9.71), (14.81, 14.98), (16.98, 17.14)),
        *((19.58, 19.82), (21.60, 21.86), (24.04, 24.28), (25.43, 25.60), (28.08, 28.28)),
        *((30.08, 30.25), (31.91, 32.13), (37.10, 37.25), (38.83, 39.01), (44.73, 45.08)),
        *((47.49, 47.76), (52.27, 52.54), (54.70, 54.86), (56.60, 57.00), (58.42, 58.58)),
        *((59.53, 59.74), (62.07, 62.42), (68.72, 68.98), (72.27, 73.35)),
    ),
    "fr_CA_f_June/demo-congrats.wav": (
        *((1.02, 1.17), (4.94, 5.26), (7.66, 7.86), (11.27, 11.59), (13.48, 13.66)),
        *((17.19, 17.53), (20.30, 20.47), (21.93, 22.12), (23.85, 24.01), (25.30, 25.49)),
        *((26.41, 26.63),),
    ),
    "fr_CA_f_June/demo-instruct.wav": (
        *((3.72, 3.92), (5.51, 5.83), (9.63, 9.86), (11.69, 11.90), (15.80, 16.17)),
        *((17.55, 17.72), (24.09, 24.42), (27.56, 27.86), (33.21, 33.58), (41.24, 41.57)),
        *((45.70, 46.09), (47.08, 47.23), (48.56, 48.74), (51.14, 51.42), (52.81, 52.97)),
        *((54.09, 54.27), (56.06, 56.43), (59.01, 59.23), (62.11, 62.37), (65.17, 65.55)),
        *((66.22, 66.44),),
    ),
}
"""Seconds from the start of the recording, by the end of its path."""


class Condition(NamedTuple):
    """What is added to the recordings, and how loud the speech is."""

    kind: str
    snr_db: float
    rate: int = 8000
    level_dbfs: float = -26.0


class Errors(NamedTuple):
    """Shares in percent: speech missed, false alarms in pauses within speech and in noise alone."""

    miss: float
    pauses: float
    noise: float


Table = dict[Condition, tuple[Errors, Errors]]
"""Errors of ours, and of webrtcvad."""

TABLE = [
    Condition("clean", np.inf),
    *(Condition(kind, snr) for kind in KINDS for snr in (20.0, 10.0, 5.0)),
]
VARIANTS = [
    condition._replace(rate=rate, level_dbfs=level)
    for rate, level in ((16_000, -26.0), (8000, -45.0), (8000, -10.0))
    for condition in TABLE
    if condition.snr_db in {np.inf, 10.0}
]
SPEECH, PAUSE, NOISE, NOT_COUNTED = range(4)


def truth_of(pauses: Sequence[tuple[float, float]], seconds: float) -> npt.NDArray[np.int64]:
    """Label the frames of a recording between two leads; those near a mark do not count."""
    shifted = [(LEAD_S + first, LEAD_S + last) for first, last in pauses]
    spans = [(-1.0, float(LEAD_S))]
    for first, last in [*shifted, (LEAD_S + seconds, np.inf)]:
        touches = first < spans[-1][1] + 0.02
        spans[-1:] = [(spans[-1][0], last)] if touches else [spans[-1], (first, last)]
    start = np.arange(int((2 * LEAD_S + seconds) * 50)) / 50
    truth = np.full(len(start), SPEECH)
    for first, last in spans:
        from_first, to_last = start - first, last - (start + 0.02)
        truth[(from_first > -COLLAR - 0.02) & (to_last > -COLLAR - 0.02)] = NOT_COUNTED
        label = NOISE if first < 0 or last == np.inf else PAUSE
        truth[(from_first > COLLAR - 1e-6) & (to_last > COLLAR - 1e-6)] = label
    return truth


@cache
def prompts() -> list[Samples]:
    """Return recordings for babble, none of which is marked."""
    return [read(path).samples for path in sorted(SOUNDS.glob("*/vm-*.wav"))]


@cache
def unit_noise(kind: str, size: int, seed: int) -> Real:
    """Return noise of rms 1: white, 1/f, or eight voices that start anywhere, half backwards."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    noise = rng.normal(size=size)
    if kind == "pink":
        bins = np.fft.rfft(noise)
        bins[1:] /= np.sqrt(np.arange(1, len(bins)))
        noise = np.fft.irfft(bins, size)
    if kind == "babble":
        noise = np.zeros(size)
        for direction in (1, -1) * 4:
            order = rng.permutation(len(prompts()))
            voice = np.concatenate([prompts()[index] for index in order])[::direction]
            noise += np.resize(np.roll(voice, rng.integers(len(voice))), size)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def scene(recording: str, condition: Condition) -> Samples:
    """Return a recording with 2 s before and behind it, in noise that fills the bandwidth."""
    plain = read(SOUNDS / recording)
    factor = condition.rate // plain.rate
    level, _ = active_level(plain.samples, plain.rate)
    gain = 10 ** ((condition.level_dbfs - level) / 20)
    audio = resample_poly(gain * np.pad(plain.samples, LEAD_S * plain.rate), factor, 1)
    if condition.kind != "clean":
        # Other voices have the bandwidth of the recordings, as one more speaker would.
        step = factor if condition.kind == "babble" else 1
        size, seed = len(audio) // step, list(PAUSES).index(recording)
        noise = resample_poly(unit_noise(condition.kind, size, seed), step, 1)
        audio += noise * 32_768 * 10 ** ((condition.level_dbfs - condition.snr_db) / 20)
    return np.clip(np.rint(audio), -32_768, 32_767).astype(np.int16)


def rates(truth: npt.NDArray[np.int64], decision: Truths) -> Errors:
    """Return the shares of wrong decisions."""
    wrong = [decision[truth == label].mean() for label in (SPEECH, PAUSE, NOISE)]
    return Errors(100 * (1 - wrong[0]), 100 * wrong[1], 100 * wrong[2])


def steady_sounds(size: int, rate: int) -> dict[str, Samples]:
    """Return sounds that are no speech, at about -10 dBFS."""
    rng, phase = np.random.default_rng(5), 2 * np.pi * np.arange(size) / rate
    shapes = {
        "silence": np.zeros(size),
        "constant": np.ones(size),
        "white noise": rng.normal(size=size) / 2,
        "clicks": 3 * (rng.random(size) < 4 / rate) + rng.normal(size=size) / 1e4,
        "1000 Hz": np.sin(1000 * phase),
        "50 Hz": np.sin(50 * phase),
        "dial tone": np.sin(350 * phase) / 2 + np.sin(440 * phase) / 2,
        "425 Hz": np.sin(425 * phase),
    }
    full = {name: np.rint(14_000 * shape) for name, shape in shapes.items()}
    return {name: np.clip(x, -32_768, 32_767).astype(np.int16) for name, x in full.items()}


def webrtc(samples: Samples, rate: int) -> Truths:
    """Return the decision of webrtcvad, mode 2."""
    detector, size = webrtcvad.Vad(2), rate // 50
    starts = range(0, len(samples) // size * size, size)
    return np.array([detector.is_speech(samples[at : at + size].tobytes(), rate) for at in starts])


def documented() -> Table:
    """Read the table of docs/voice.md."""
    table: Table = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in {"clean", *KINDS}:
            snr = np.inf if cells[0] == "clean" else float(cells[1])
            condition = Condition(cells[0], snr, int(cells[2]), float(cells[3]))
            values = [float(cell) for cell in cells[4:]]
            table[condition] = Errors(*values[:3]), Errors(*values[3:])
    return table
