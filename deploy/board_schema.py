"""Boards against the JSON Schemas of Grafana's own types, which `make test-tools` generates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dashboards.model import Json

SCHEMAS = Path(".cache/grafana-schema")
# The types say that an annotation's target has tags and a limit: that is one kind of many.
_TOO_NARROW = ("annotations", "target")


def has_schemas(folder: Path) -> bool:
    """Whether the schemas have been generated."""
    return (folder / "dashboard.json").is_file()


def violations(board: Json, folder: Path) -> Iterator[str]:
    """Yield where a board differs from the schemas: the board, then each panel's own part.

    Raises:
        ImportError: jsonschema is not installed; it is for developers.
    """
    for path, message in _errors(board, folder / "dashboard.json"):
        if not set(_TOO_NARROW) <= set(path):
            yield f"{'.'.join(map(str, path))}: {message}"
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield from _of_panel(panel, folder)


def _of_panel(panel: Json, folder: Path) -> Iterator[str]:
    plugin = panel["type"].replace("-", "")
    parts = [("Options", panel["options"])]
    defaults = panel["fieldConfig"]["defaults"].get("custom", {})
    parts.append(("FieldConfig", _custom_defaults(plugin) | defaults))
    parts += [("FieldConfig", part) for part in _overridden(panel, plugin)]
    for name, value in parts:
        path = folder / f"{plugin}.{name}.json"
        # Some panels have no field options of their own; then there may be none here.
        if not path.is_file():
            if value:
                yield f"{panel['title']}: {plugin} has no {name}"
            continue
        for where, message in _errors(value, path):
            yield f"{panel['title']}: {name} {'.'.join(map(str, where))}: {message}"


def _custom_defaults(plugin: str) -> Json:
    """Required by the types of a table, and added by Grafana where they lack."""
    if plugin == "table":
        return {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    return {}


def _overridden(panel: Json, plugin: str) -> Iterator[Json]:
    for each in panel["fieldConfig"]["overrides"]:
        custom = {
            part["id"].removeprefix("custom."): part["value"]
            for part in each["properties"]
            if part["id"].startswith("custom.")
        }
        yield _custom_defaults(plugin) | custom if custom else {**_custom_defaults(plugin)}


def _errors(value: Any, path: Path) -> Iterator[tuple[tuple[str | int, ...], str]]:
    import jsonschema  # noqa: PLC0415 - developers have it, a host does not need it

    schema = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    for error in validator.iter_errors(value):
        yield tuple(error.absolute_path), error.message[:200]
