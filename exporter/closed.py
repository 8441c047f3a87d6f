"""One bucket of one tap, complete, before it is summed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from exporter.analysis.frames import Matrix
from exporter.metrics import COLUMNS
from exporter.model import BUCKET_SECONDS, SAMPLE_BYTES, Cause, Gap, Run, Tap

Samples = npt.NDArray[np.int16]
Offsets = npt.NDArray[np.int64]
Column = npt.NDArray[np.float64]


class Noted(NamedTuple):
    """The aggregate of notes, and where the newest stands."""

    values: int
    min: float
    max: float
    sum: float
    last: float
    position: int


@dataclass(frozen=True, slots=True)
class ClosedTap:
    """One bucket of one tap, complete, before it is summed up.

    Attributes:
        tap: PRE or POST.
        rate: Sampling rate in Hz.
        start_ns: Start of the bucket.
        first_sample: Offset of the first due sample in the bucket.
        due_samples: How many samples were due.
        runs: The audio, ordered, disjoint.
        gaps: What is missing, ordered, disjoint.
        withheld: Which part of the audio is measured and not archived, as the gaps that it becomes.
        rows: Measurements of frames, ``[frames, WIDTH]``.
        starts: Offset of each frame in the bucket.
        speech: Which frames are speech.
        notes: Of metrics that are not measured on frames.
        borders: Offsets at which a block of the host begins.
        pace: Seconds of audio per second of wall clock while active; NaN where unknown.
    """

    tap: Tap
    rate: int
    start_ns: int
    first_sample: int
    due_samples: int
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]
    withheld: tuple[Gap, ...]
    rows: Matrix
    starts: Offsets
    speech: npt.NDArray[np.bool_]
    notes: dict[str, Noted]
    borders: Offsets
    pace: float

    def archived(self) -> tuple[tuple[Run, ...], tuple[Gap, ...]]:
        """Return audio and gaps as the archive gets them: without what is withheld."""
        if not self.withheld:
            return self.runs, self.gaps
        gaps = sorted((*self.gaps, *self.withheld), key=lambda gap: gap.first_sample)
        return tuple(part for run in self.runs for part in _outside(run, self.withheld)), tuple(
            gaps
        )

    def column(self, key: str) -> Column:
        """Return the values of one metric, one for each frame; NaN is unknown."""
        return self.rows[:, COLUMNS[key]]

    def samples(self) -> Samples:
        """Lay the audio out over the bucket, with zeros where there is none; not to be written."""
        size = BUCKET_SECONDS * self.rate
        if self.runs and self.runs[0].samples == size:
            return np.frombuffer(self.runs[0].pcm, "<i2")
        laid = np.zeros(size, np.int16)
        for run in self.runs:
            laid[run.first_sample : run.first_sample + run.samples] = np.frombuffer(run.pcm, "<i2")
        return laid


def _outside(run: Run, gaps: tuple[Gap, ...]) -> Iterator[Run]:
    """Yield the parts of a run that lie in none of the gaps."""
    start, end = run.first_sample, run.first_sample + run.samples
    for gap in (*gaps, Gap(end, 1, Cause.IDLE)):
        stop = min(gap.first_sample, end)
        if start < stop:
            first = (start - run.first_sample) * SAMPLE_BYTES
            yield Run(start, run.pcm[first : (stop - run.first_sample) * SAMPLE_BYTES])
        start = max(start, gap.first_sample + gap.samples)
