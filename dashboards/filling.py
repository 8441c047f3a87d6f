"""Choosing values for the variables of a board, as Grafana does when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from dashboards.expansion import View, ask_for
from dashboards.model import Board, Variable


class Sources(Protocol):
    """What answers the queries of variables."""

    def columns(self, sql: str) -> tuple[list[str], list[Sequence[Any]]]:
        """Return names of the columns and the rows of an SQL query."""

    def label_values(self, family: str, label: str) -> list[str]:
        """Return the values that a label of a Prometheus family has."""


def fill(board: Board, view: View, sources: Sources) -> View:
    """Return the view with values for all variables: the first of each, or all where all may be.

    Raises:
        LookupError: A variable finds nothing to choose from.
    """
    for variable in board.variables:
        if variable.type == "datasource":
            continue
        if variable.name in view.values:
            continue
        values = _values(variable, view, sources)
        chosen = tuple(values if variable.is_multi else values[:1])
        several = view.several | ({variable.name} if variable.is_multi else set())
        view = replace(
            view, values={**view.values, variable.name: chosen}, several=frozenset(several)
        )
    return view


def _values(variable: Variable, view: View, sources: Sources) -> list[str]:
    if variable.type != "query":
        return [variable.current]
    asked = ask_for(variable, view)
    if isinstance(asked, tuple):
        found = sources.label_values(*asked)
    else:
        names, rows = sources.columns(asked)
        at = names.index("__value") if "__value" in names else 0
        found = [str(row[at]) for row in rows]
    if not found:
        raise LookupError(f"variable ${variable.name} finds nothing to choose from")
    return found
