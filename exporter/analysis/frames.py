"""From placed audio to frames: the 20 ms grid of each tap, and batches over all taps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.analysis import timedomain
from exporter.model import FRAMES_PER_SECOND, SAMPLE_BYTES

Matrix = npt.NDArray[np.float64]


class Grid:
    """Cuts one tap's audio into frames.

    The grid starts at the first sample and anew after each gap. A rest shorter than a frame waits
    for the samples that follow it, or is given up at a gap.
    """

    __slots__ = ("_next", "_rest", "frame_samples")

    def __init__(self, rate: int) -> None:
        self.frame_samples = rate // FRAMES_PER_SECOND
        self._rest = b""
        self._next: int | None = None

    @property
    def rest_position(self) -> int | None:
        """Position of the first sample that waits, None when nothing waits."""
        if not self._rest or self._next is None:
            return None
        return self._next - len(self._rest) // SAMPLE_BYTES

    def cut(self, position: int, pcm: bytes) -> tuple[int, bytes]:
        """Take audio at ``position`` and return whole frames: position of the first, PCM."""
        if position != self._next:
            self._rest = b""
        first = position - len(self._rest) // SAMPLE_BYTES
        self._next = position + len(pcm) // SAMPLE_BYTES
        audio = self._rest + pcm
        whole = len(audio) // (self.frame_samples * SAMPLE_BYTES)
        size = whole * self.frame_samples * SAMPLE_BYTES
        self._rest = audio[size:]
        return first, audio[:size]

    def restart(self) -> None:
        """Give up the rest: a gap follows."""
        self._rest = b""
        self._next = None


@dataclass(slots=True)
class Batch:
    """Frames of one length from many taps, to be measured in one go."""

    frame_samples: int
    silence_dbfs: float

    def measure(self, chunks: list[bytes]) -> list[Matrix]:
        """Measure whole frames.

        Args:
            chunks: PCM of whole frames, one entry for each tap.

        Returns:
            One matrix ``[frames, metrics]`` for each entry, columns as ``FRAME_METRICS``.
        """
        frames = np.frombuffer(b"".join(chunks), dtype="<i2").reshape(-1, self.frame_samples)
        values = timedomain.measure(frames, self.silence_dbfs)
        counts = [len(chunk) // (self.frame_samples * SAMPLE_BYTES) for chunk in chunks]
        return np.split(values, np.cumsum(counts[:-1])) if chunks else []
