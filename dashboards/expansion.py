"""Filling variables and macros into queries as Grafana does, for checks, tests and benchmarks.

SQL: variables first, then macros, which are found by a pattern that takes no parenthesis inside
their arguments. PromQL: several values of a variable become an alternative of a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dashboards.model import Board, Source, Target, Variable

Values = Mapping[str, tuple[str, ...]]

_VARIABLE = re.compile(r"\$\{(?!__)(\w+)(?::(\w+))?\}|\$(?!__)([A-Za-z_]\w*)")
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
_SPAN = re.compile(r"now-(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_POINTS = 1_000


class ExpansionError(ValueError):
    """A query names a variable or a macro that is not there."""


@dataclass(frozen=True, slots=True)
class View:
    """What somebody looks at.

    Attributes:
        start: Begin of the time range.
        end: Its end.
        values: Chosen values of each variable.
        scrape_s: How often Prometheus asks.
        several: Variables in which several values may be chosen.
    """

    start: datetime
    end: datetime
    values: Values = field(default_factory=dict)
    scrape_s: float = 1.0
    several: frozenset[str] = frozenset()

    @property
    def interval_s(self) -> float:
        """Step between two points of a graph."""
        return max(self.scrape_s, (self.end - self.start).total_seconds() / _POINTS)


def begin_of(board: Board, end: datetime) -> datetime:
    """Return where a board's own time range begins."""
    found = _SPAN.fullmatch(board.time_from)
    if found is None:
        raise ExpansionError(f"{board.uid}: time range {board.time_from!r}")
    return end - timedelta(**{_UNITS[found[2]]: int(found[1])})


def expand(target: Target, view: View) -> str:
    """Return the query of a target as its data source gets it.

    Raises:
        ExpansionError: It names what is not there.
    """
    return sql(target.text, view) if target.source is Source.POSTGRES else promql(target.text, view)


def sql(text: str, view: View) -> str:
    """Return SQL with everything filled in."""
    filled = _filled(text, view, _in_sql)
    filled = filled.replace("$__interval_ms", str(round(view.interval_s * 1_000)))
    expanded = _MACRO.sub(lambda found: _macro(found[1], found[2], view), filled)
    return _whole(expanded)


def promql(text: str, view: View) -> str:
    """Return PromQL with everything filled in."""
    rate_s = max(view.interval_s + view.scrape_s, 4 * view.scrape_s)
    range_s = (view.end - view.start).total_seconds()
    filled = _filled(text, view, lambda values, _, name: _in_promql(values, name in view.several))
    filled = filled.replace("$__rate_interval", f"{round(rate_s)}s")
    return _whole(filled.replace("$__range", f"{round(range_s)}s"))


def _filled(text: str, view: View, render: Callable[[tuple[str, ...], str, str], str]) -> str:
    def fill(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name not in view.values:
            raise ExpansionError(f"no variable ${name} in {text!r}")
        return render(view.values[name], found[2] or "", name)

    return _VARIABLE.sub(fill, text)


def _in_sql(values: tuple[str, ...], form: str, name: str) -> str:
    if form == "sqlstring":
        return ",".join("'" + value.replace("'", "''") + "'" for value in values)
    if form == "raw" and len(values) == 1:
        return values[0]
    raise ExpansionError(f"${name} in SQL as {form!r}: only sqlstring, or raw for one value")


def _in_promql(values: tuple[str, ...], is_several: bool) -> str:  # noqa: FBT001 - one bit
    if not is_several:
        return values[0]
    escaped = [re.escape(value).replace("\\", "\\\\") for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _literal(moment: datetime) -> str:
    return f"'{moment:%Y-%m-%dT%H:%M:%SZ}'"


def _macro(name: str, arguments: str, view: View) -> str:
    start, end = _literal(view.start), _literal(view.end)
    if name == "__timeFrom":
        return start
    if name == "__timeTo":
        return end
    if name == "__timeFilter":
        return f"{arguments} BETWEEN {start} AND {end}"
    raise ExpansionError(f"no macro ${name}")


def _whole(text: str) -> str:
    if "$" in text:
        raise ExpansionError(f"something is left to fill in: {text!r}")
    return text


def ask_for(variable: Variable, view: View) -> str | tuple[str, str]:
    """Return what a variable asks: SQL, or family and label of PromQL's ``label_values``.

    Raises:
        ExpansionError: It asks something else.
    """
    if variable.source is Source.POSTGRES:
        return sql(variable.query, view)
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.query)
    if found is None:
        raise ExpansionError(f"variable {variable.name}: {variable.query!r}")
    return found[1], found[2]
