"""What taps remember from call to call, as bytes.

Those of many taps are joined, and cut apart again, much faster than as many arrays are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", np.float32, np.float64)


def joined(values: list[bytes], kind: type[Scalar], size: int) -> npt.NDArray[Scalar]:
    """Return what several taps remember, a row of so many numbers each; it may be written to."""
    return np.frombuffer(bytearray().join(values), kind).reshape(len(values), size)


def apart(rows: npt.NDArray[Any]) -> Iterator[bytes]:
    """Yield what each tap is to remember: its row."""
    whole, size = rows.tobytes(), rows.shape[1] * rows.itemsize
    return (whole[first : first + size] for first in range(0, len(whole), size))
