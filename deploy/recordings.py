"""Recordings as stations hear them: mono, int16, of a rate that a tap takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from exporter.config import check_rate
from exporter.errors import MonitoringError


class RecordingError(MonitoringError):
    """A recording cannot be used; the message names the file and what is wrong with it."""


def read_recording(path: Path) -> tuple[npt.NDArray[np.int16], int]:
    """Read a mono recording.

    Returns:
        int16 samples, and the rate in Hz.

    Raises:
        RecordingError: It cannot be read, is not mono, or has a rate that no tap takes.
    """
    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    if samples.shape[1] != 1:
        raise RecordingError(f"{path}: {samples.shape[1]} channels; a tap hears one")
    try:
        return np.ascontiguousarray(samples[:, 0]), check_rate(int(rate))
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from None


def read_all(paths: tuple[Path, ...]) -> tuple[npt.NDArray[np.int16], int]:
    """Read recordings of one rate, one after the other.

    Raises:
        RecordingError: One cannot be used, or their rates differ.
    """
    found = [read_recording(path) for path in paths]
    rates = {rate for _, rate in found}
    if len(rates) != 1:
        raise RecordingError(f"{', '.join(map(str, paths))}: rates differ: {sorted(rates)}")
    return np.concatenate([samples for samples, _ in found]), rates.pop()
