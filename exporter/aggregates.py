"""The aggregates of one tap in one bucket, kept column by column.

A bucket has about sixty of them at each tap. As objects, those of a hundred calls would make the
garbage collector walk through all of the host's memory every few seconds, and the audio threads
wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

COUNT, MIN, MAX, SUM, LAST = range(5)

Table = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One metric in one bucket at one tap.

    Attributes:
        metric_key: Registry key, such as ``pcm.rms_dbfs``.
        count: Number of values, at least 1.
        min: Smallest value, in the metric's unit (so are max, sum and last).
        max: Largest value.
        sum: Sum of the values; ``avg`` is sum / count.
        last: The newest value.
        last_ns: Time of the newest value.
    """

    metric_key: str
    count: int
    min: float
    max: float
    sum: float
    last: float
    last_ns: int

    @property
    def avg(self) -> float:
        """Arithmetic mean of the values."""
        return self.sum / self.count


class Aggregates(Sequence[Aggregate]):
    """An immutable sequence of aggregates, made one by one as they are looked at.

    Args:
        keys: Metric keys, ``[n]``.
        table: float64 ``[n, 5]``: count, min, max, sum, last.
        times: Time of the newest value in ns, int64 ``[n]``.
    """

    __slots__ = ("keys", "table", "times")

    def __init__(self, keys: Sequence[str], table: Table, times: Times) -> None:
        self.keys = tuple(keys)
        self.table = table
        self.times = times

    @classmethod
    def of(cls, aggregates: Iterable[Aggregate]) -> Aggregates:
        """Take aggregates that were made one by one."""
        some = [astuple(each) for each in aggregates]
        table = np.array([each[1:6] for each in some], np.float64).reshape(-1, 5)
        return cls(
            [each[0] for each in some], table, np.array([each[6] for each in some], np.int64)
        )

    @classmethod
    def of_values(cls, values: Mapping[str, float], at_ns: int) -> Aggregates:
        """Take metrics that have one value in the bucket."""
        table = np.ones((len(values), 5))
        table[:, MIN:] = np.array(list(values.values()), np.float64)[:, None]
        return cls(tuple(values), table, np.full(len(values), at_ns, np.int64))

    @classmethod
    def joined(cls, parts: Iterable[Aggregates]) -> Aggregates:
        """Put several behind one another."""
        some = list(parts)
        return cls(
            [key for part in some for key in part.keys],
            np.concatenate([part.table for part in some]),
            np.concatenate([part.times for part in some]),
        )

    def mean_of(self, key: str) -> float | None:
        """Return the mean of a metric; None where it has no aggregate."""
        if key not in self.keys:
            return None
        row = self.table[self.keys.index(key)]
        return float(row[SUM] / row[COUNT])

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Aggregate]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Aggregate: ...

    @overload
    def __getitem__(self, index: slice) -> Aggregates: ...

    def __getitem__(self, index: int | slice) -> Aggregate | Aggregates:
        if isinstance(index, slice):
            return Aggregates(self.keys[index], self.table[index], self.times[index])
        count, low, high, total, last = self.table[index].tolist()
        at_ns = int(self.times[index])
        return Aggregate(self.keys[index], int(count), low, high, total, last, at_ns)


NONE = Aggregates((), np.empty((0, 5)), np.empty(0, np.int64))
