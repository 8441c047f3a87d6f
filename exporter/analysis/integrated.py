"""Integrated loudness of a call by ITU-R BS.1770-5, from the energies of its gating blocks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int64, void

from exporter.compiled import compiled

OFFSET_LU = -0.691
GATE_LUFS = -70.0
MAX_LUFS = 5.0
BINS_PER_LU = 10
BINS = round((MAX_LUFS - GATE_LUFS) * BINS_PER_LU)

GATE_ENERGY = 10.0 ** ((GATE_LUFS - OFFSET_LU) / 10.0)
_RELATIVE_GATE = 0.1  # -10 LU

Reals = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Integrated:
    """Integrated loudness of a call, with both gates of BS.1770-5 (Annex 1, formulas 3 to 7).

    Memory is bounded: gating blocks are counted and their energies summed in bins of 0.1 LU from
    -70 to +5 LUFS. A bin lies above the relative gate when its mean energy does.
    """

    __slots__ = ("_counts", "_sums")

    def __init__(self) -> None:
        self._counts, self._sums = np.zeros(BINS, np.int64), np.zeros(BINS)

    def add(self, energies: Reals) -> None:
        """Add the mean squares of gating blocks, ``[blocks]``; NaN and gated ones are ignored."""
        _add(energies, self._counts, self._sums)

    def value(self) -> float:
        """Return the loudness in LUFS, NaN when no block passed the gates."""
        return _value(self._counts, self._sums)


@compiled(void(float64[:], int64[::1], float64[::1]))
def _add(energies: Reals, counts: Counts, sums: Reals) -> None:
    for energy in energies:
        if energy > GATE_ENERGY:
            level = 10.0 * math.log10(energy) + OFFSET_LU
            place = min(int((level - GATE_LUFS) * BINS_PER_LU), BINS - 1)
            counts[place] += 1
            sums[place] += energy


@compiled(float64(int64[::1], float64[::1]))
def _value(counts: Counts, sums: Reals) -> float:
    blocks, total = counts.sum(), sums.sum()
    if not blocks:
        return math.nan
    gate = _RELATIVE_GATE * total / blocks
    blocks, total = 0, 0.0
    for count, energy in zip(counts, sums):  # noqa: B905 - numba's zip has no strict
        if energy > gate * count:
            blocks += count
            total += energy
    return min(10.0 * math.log10(total / blocks) + OFFSET_LU, MAX_LUFS)
