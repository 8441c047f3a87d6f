"""Make the demo's speech: `python deploy/speech/make_speech.py` (needs espeak-ng on the PATH).

Speaks dialogue.json, one caller in English and in French, and writes `caller_<language>.flac`
beside it: 16 kHz, mono, 16 bit, about -20 dBFS rms, over the faint noise of a telephone line.
The same espeak-ng version gives the same samples again.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from math import gcd
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

RATE = 16_000
LEVEL_DBFS = -20.0
PEAK_DBFS = -1.0
NOISE_DBFS = -66.0
LEAD_IN_S = 0.4

Samples = npt.NDArray[np.float64]


class Sentence(TypedDict):
    """One sentence: its level against the others, and the pause after it."""

    text: str
    gain_db: float
    pause_s: float


class Part(TypedDict):
    """What is spoken in one language, and by which espeak-ng voice."""

    voice: str
    words_per_minute: int
    sentences: list[Sentence]


def speak(text: str, *, voice: str, words_per_minute: int) -> Samples:
    """Return `text` spoken, float64 mono at 16 kHz; CalledProcessError when espeak-ng fails."""
    command = ["espeak-ng", "--stdout", "-z", "-v", voice, "-s", str(words_per_minute), text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float64")
    common = gcd(RATE, rate)
    resampled: Samples = resample_poly(samples, RATE // common, rate // common)
    return resampled


def call(part: Part) -> Samples:
    """Return all sentences with gains and pauses, float64 mono at 16 kHz, of any level."""
    pieces = [np.zeros(int(LEAD_IN_S * RATE))]
    for sentence in part["sentences"]:
        spoken = speak(
            sentence["text"], voice=part["voice"], words_per_minute=part["words_per_minute"]
        )
        spoken = spoken / np.sqrt(np.mean(spoken**2))
        pieces += [spoken * gain(sentence["gain_db"]), np.zeros(int(sentence["pause_s"] * RATE))]
    return np.concatenate(pieces)


def level(samples: Samples) -> npt.NDArray[np.int16]:
    """Bring `samples` to about LEVEL_DBFS rms and lay line noise under them.

    Peaks bend smoothly below PEAK_DBFS, as in a telephone's microphone stage: nothing clips.
    """
    scaled = samples * (gain(LEVEL_DBFS) / np.sqrt(np.mean(samples**2)))
    bent = gain(PEAK_DBFS) * np.tanh(scaled / gain(PEAK_DBFS))
    noise = np.random.default_rng(1).standard_normal(len(bent)) * gain(NOISE_DBFS)
    whole: npt.NDArray[np.int16] = np.rint((bent + noise) * 32_767).astype(np.int16)
    return whole


def gain(db: float) -> float:
    """Return the amplitude factor of `db` decibels."""
    return float(10 ** (db / 20))


def main() -> None:
    """Write one FLAC file for each language of dialogue.json."""
    here = Path(__file__).parent
    parts: dict[str, Part] = json.loads((here / "dialogue.json").read_text(encoding="utf-8"))
    for language, part in parts.items():
        path = here / f"caller_{language}.flac"
        samples = level(call(part))
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        sys.stdout.write(f"{path.name}: {len(samples) / RATE:.1f} s\n")


if __name__ == "__main__":
    main()
