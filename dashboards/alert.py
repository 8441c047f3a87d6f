"""What an alert is; Prometheus's and Grafana's rules are both made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dashboards.conditions import Condition, Search
from dashboards.thresholds import Direction, Threshold


class Severity(StrEnum):
    """Who has to do something: somebody now, or somebody soon."""

    CRITICAL = "critical"
    WARNING = "warning"


class Group(StrEnum):
    """What is wrong: calls, the archive, or the monitoring itself."""

    CALLS = "monitoring-calls"
    ARCHIVE = "monitoring-archive"
    HOST = "monitoring-host"


class Unit(StrEnum):
    """How a value is written: a template of Go in which ``VALUE`` stands for it."""

    SHARE = "{{ VALUE | humanizePercentage }}"
    SECONDS = "{{ VALUE | humanizeDuration }}"
    LEVEL = '{{ VALUE | printf "%.1f" }} dBFS'
    DECIBELS = '{{ VALUE | printf "%.1f" }} dB'
    NUMBER = '{{ VALUE | printf "%.0f" }}'


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit on one side.

    Attributes:
        direction: Where it is bad.
        value: In the unit of the condition.
    """

    direction: Direction
    value: float

    @classmethod
    def of(cls, found: Threshold, factor: float = 1.0) -> Limit:
        """Return the limit from which on somebody has to act, in another unit."""
        return cls(found.direction, found.scaled(factor).critical)

    @property
    def comparison(self) -> str:
        """What follows an expression in PromQL."""
        return f"{'>' if self.direction is Direction.ABOVE else '<'} {self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    Attributes:
        name: Of the rule, and of its entry in RUNBOOK.md.
        group: What is wrong.
        severity: Who has to do something.
        summary: One line; ``{value}``, ``{calls}`` and names of labels are filled in.
        description: What it means.
        condition: What is compared, in PromQL.
        limit: With what.
        hold_s: How long it has to be so.
        window_s: How far the condition looks back.
        unit: How the value is written.
        labels: Labels of the condition's result that the summary names.
        dashboard: The dashboard to look at.
        metric: Key of the metric that the drill-down shows; empty where there is none.
        search: How Grafana finds the calls concerned; None where SQL cannot tell.
    """

    name: str
    group: Group
    severity: Severity
    summary: str
    description: str
    condition: Condition
    limit: Limit
    hold_s: int = 0
    window_s: int = 0
    unit: Unit = Unit.NUMBER
    labels: tuple[str, ...] = ("instance",)
    dashboard: str
    metric: str = ""
    search: Callable[[int], Search] | None = None

    @property
    def value(self) -> str:
        """PromQL of the number that is compared."""
        return self.condition(self.window_s)

    @property
    def expression(self) -> str:
        """PromQL that has results while it is so."""
        return f"(\n{self.value}\n) {self.limit.comparison}"

    @property
    def rule(self) -> str:
        """The rule in words, as RUNBOOK.md has it."""
        held = f", for {self.hold_s} s" if self.hold_s else ""
        back = f", over {self.window_s} s" if self.window_s else ""
        where = f"{self.limit.direction} {self.limit.value:g}"
        return f"{self.severity}; {where}{back}{held}"
