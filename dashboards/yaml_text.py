"""YAML for files that people read: always the same bytes for the same data, no library needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

# Names, paths, and durations such as 30s.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+[smh]")
# Words that some readers of YAML take for something else than text.
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def render(data: Mapping[str, object], comment: str) -> str:
    """Return a document.

    Args:
        data: Mappings, sequences, text, numbers and truths.
        comment: Lines at its top.
    """
    head = [f"# {line}" for line in comment.splitlines()]
    return "\n".join([*head, *_mapping(data, "")]) + "\n"


def _mapping(data: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, value in data.items():
        yield from _entry(f"{indent}{key}:", value, f"{indent}  ")


def _sequence(data: Sequence[object], indent: str) -> Iterator[str]:
    for value in data:
        if isinstance(value, Mapping) and value:
            first, *rest = _mapping(value, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(value)}"


def _entry(start: str, value: object, indent: str) -> Iterator[str]:
    """Yield an entry of a mapping; what belongs to it stands below it, farther in."""
    if isinstance(value, Mapping) and value:
        yield start
        yield from _mapping(value, indent)
    elif isinstance(value, list | tuple) and value:
        yield start
        yield from _sequence(value, indent)
    elif isinstance(value, str) and "\n" in value:
        yield f"{start} |-"
        yield from (f"{indent}{line}" for line in value.split("\n"))
    else:
        yield f"{start} {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if is_plain else "'" + value.replace("'", "''") + "'"
    if not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    raise TypeError(f"{value!r} has no place in these files")
