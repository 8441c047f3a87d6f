"""From placed audio to frames: the 20 ms grid of each tap, and stretches of whole frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.analysis.loudness import LoudnessMemory
from exporter.analysis.voice import VoiceMemory
from exporter.model import FRAMES_PER_SECOND, SAMPLE_BYTES

Matrix = npt.NDArray[np.float64]


def largest_step(count: int, most: int) -> int:
    """Return the largest step up to ``most``, 1 at least, that divides a number of samples."""
    return max(step for step in range(1, max(1, most) + 1) if count % step == 0)


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


class TapMemory:
    """What the analysis remembers of one tap from frame to frame.

    Attributes:
        last_frame: PCM of the newest frame.
        next_position: Where the frame that follows it without a gap would stand.
        voice: Levels of the last 3 s and the state of the voice decision.
        loudness: State of the weighting filter, energies of the last 3 s.
    """

    __slots__ = ("last_frame", "loudness", "next_position", "voice")

    def __init__(self) -> None:
        self.last_frame = b""
        self.next_position: int | None = None
        self.voice = VoiceMemory()
        self.loudness = LoudnessMemory()

    def go_to(self, position: int, frame_samples: int) -> None:
        """Say where the next frame stands: after a gap, windows and filters begin anew."""
        if self.next_position is not None and position != self.next_position:
            self.last_frame = b""
            self.loudness.restart()
            # Backwards only by the rest of a frame, which is no time that passed.
            missing = max(0, position - self.next_position)
            self.voice.restart(missing // frame_samples)


@dataclass(slots=True)
class Stretch:
    """Whole frames of one tap, one directly after the other, that wait to be measured.

    Attributes:
        memory: Of the tap.
        rate: Sampling rate in Hz.
        position: Of the first sample.
        pcm: Parts that make up the frames.
        is_live: Whether the live gauges have not seen these frames yet.
        has_spectrum: Whether the spectrum is wanted.
    """

    memory: TapMemory
    rate: int
    position: int
    pcm: list[bytes]
    is_live: bool
    has_spectrum: bool

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return self.rate // FRAMES_PER_SECOND

    @property
    def end(self) -> int:
        """Position behind the last sample."""
        return self.position + sum(map(len, self.pcm)) // SAMPLE_BYTES

    def is_followed_by(self, position: int, *, is_live: bool, has_spectrum: bool) -> bool:
        """Tell whether frames at ``position`` simply go on here."""
        same = (self.is_live, self.has_spectrum) == (is_live, has_spectrum)
        return same and self.end == position
