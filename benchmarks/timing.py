"""Take turns and keep the medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns


@dataclass(frozen=True, slots=True)
class Contender:
    """One side of a comparison.

    Attributes:
        run: Does the work of one round.
        units: What one round is divided by: calls or samples.
        tidy: Runs after each round, outside the measured time.
    """

    run: Callable[[], object]
    units: int
    tidy: Callable[[], object] = lambda: None


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, float]:
    """Run every contender once per round, after one round that does not count.

    Returns:
        Median cost of one unit in ns, by name.
    """
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, contender in contenders.items():
            start = perf_counter_ns()
            contender.run()
            passed = perf_counter_ns() - start
            contender.tidy()
            if turn:
                costs[name].append(passed / contender.units)
    return {name: median(each) for name, each in costs.items()}
