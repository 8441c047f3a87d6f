"""Parameters of a request: declared once, for the checks and for the OpenAPI document."""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from archiver.times import iso, parse_time
from archiver.web.problems import Problem
from exporter.model import KEY_PATTERN

Schema = Mapping[str, object]
_METRIC = re.compile(r"[a-z][a-z0-9_.]{0,96}")
MOST_METRICS = 64


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: As it stands in the address.
        text: What it means.
        schema: JSON schema of it.
        parse: Makes a value of the text; ValueError says what is wrong.
        where: ``query`` or ``path``.
        default: Value when it is absent.
        is_required: Whether it may be absent.
    """

    name: str
    text: str
    schema: Schema
    parse: Callable[[str], Any]
    where: str = "query"
    default: Any = None
    is_required: bool = field(default=False)

    def read(self, values: Mapping[str, str]) -> Any:
        """Return the value among a request's.

        Raises:
            Problem: 400 when it is wrong or missing; 404 when it is part of the path.
        """
        raw = values.get(self.name)
        if raw is None:
            if self.is_required:
                raise Problem(400, f"{self.name}: is missing")
            return self.default
        try:
            return self.parse(raw)
        except ValueError as error:
            if self.where == "path":
                raise Problem(404, f"nothing is known of this {self.name}") from None
            raise Problem(400, f"{self.name}: {error}") from None


def in_path(parameter: Parameter) -> Parameter:
    """Return a parameter as part of the path."""
    return replace(parameter, where="path", is_required=True)


def required(parameter: Parameter) -> Parameter:
    """Return a parameter that must be given."""
    return replace(parameter, is_required=True)


def key(name: str, text: str) -> Parameter:
    """Return a parameter that is a trace id, station or extension."""
    return Parameter(
        name, text, {"type": "string", "pattern": f"^{KEY_PATTERN.pattern}$"}, checked_key
    )


def moment(name: str, text: str) -> Parameter:
    """Return a parameter that is a time."""
    schema = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}
    return Parameter(name, f"{text} ISO-8601, or seconds since 1970.", schema, parse_time)


def integer(name: str, text: str, *, low: int, high: int, default: int | None) -> Parameter:
    """Return a parameter that is a whole number."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", raw) or not low <= int(raw) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(raw)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    if default is not None:
        schema |= {"default": default}
    return Parameter(name, text, schema, parse, default=default)


def number(name: str, text: str, *, low: float, high: float, default: float) -> Parameter:
    """Return a parameter that is a number."""

    def parse(raw: str) -> float:
        value = float(raw) if re.fullmatch(r"[-+0-9.eE]{1,32}", raw) else math.nan
        if not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}")
        return value

    schema = {"type": "number", "minimum": low, "maximum": high, "default": default}
    return Parameter(name, text, schema, parse, default=default)


def choice(name: str, text: str, options: tuple[str, ...], default: str | None = None) -> Parameter:
    """Return a parameter that is one of a few words."""

    def parse(raw: str) -> str:
        if raw not in options:
            raise ValueError(f"expected {' or '.join(options)}")
        return raw

    schema: dict[str, object] = {"type": "string", "enum": list(options)}
    if default is not None:
        schema["default"] = default
    return Parameter(name, text, schema, parse, default=default)


def flag(name: str, text: str) -> Parameter:
    """Return a parameter that is 1 for yes, and 0 or absent for no."""

    def parse(raw: str) -> bool:
        if raw not in {"0", "1"}:
            raise ValueError("expected 0 or 1")
        return raw == "1"

    schema = {"type": "integer", "enum": [0, 1], "default": 0}
    return Parameter(name, text, schema, parse, default=False)


def checked_key(raw: str) -> str:
    """Return a trace id or station; ValueError for what cannot be one."""
    if not KEY_PATTERN.fullmatch(raw):
        raise ValueError("expected up to 64 letters, digits, '_', '-' or '.'")
    return raw


def _text(raw: str) -> str:
    if len(raw) > 200 or "\0" in raw:  # noqa: PLR2004 - as the schema says
        raise ValueError("expected up to 200 characters")
    return raw


def _metrics(raw: str) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(raw.split(",")))
    if len(keys) > MOST_METRICS or not all(map(_METRIC.fullmatch, keys)):
        raise ValueError("expected keys of metrics such as pcm.rms_dbfs, with commas between")
    return keys


def _metric(raw: str) -> str:
    (only,) = keys if len(keys := _metrics(raw)) == 1 else ("",)
    if not only:
        raise ValueError("expected the key of one metric, such as pcm.rms_dbfs")
    return only


def _uuid(raw: str) -> str:
    return str(uuid.UUID(raw))


# Cursors: the key of the last row, opaque to the client. ---------------------------------------


def to_cursor(row_key: tuple[Any, ...] | None) -> str | None:
    """Return a cursor for the key after which the next page begins; None for no next page."""
    if row_key is None:
        return None
    parts = [iso(part) if hasattr(part, "isoformat") else part for part in row_key]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def cursor(*kinds: tuple[Callable[[Any], Any], ...]) -> Parameter:
    """Return the parameter ``cursor`` for keys of these kinds, told by how many parts they have.

    Args:
        kinds: For each kind the functions that read the parts of its key.
    """
    by_length = {len(parse): parse for parse in kinds}

    def read(raw: str) -> tuple[Any, ...]:
        try:
            parts = json.loads(base64.b64decode(raw + "=" * (-len(raw) % 4), b"-_", validate=True))
            return tuple(
                each(part) for each, part in zip(by_length[len(parts)], parts, strict=True)
            )
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            raise ValueError("expected what an earlier page gave as next") from None

    schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "maxLength": 400}
    return Parameter("cursor", "The value of next of the page before.", schema, read)


TRACE = in_path(key("trace_id", "Id of the call."))
STATION_PATH = in_path(key("station_key", "Station, such as St_3_3333."))
STATION = key("station", "Station, such as St_3_3333.")
FROM = moment("from", "Start of the time.")
TO = moment("to", "End of the time.")
TEXT = Parameter(
    "q",
    "Part of trace id, call id, extension or attributes.",
    {"type": "string", "maxLength": 200, "pattern": "^[^\\u0000]*$"},
    _text,
)
METRICS = Parameter(
    "metrics",
    "Keys of metrics with commas between.",
    {"type": "string", "pattern": "^[a-z][a-z0-9_.]{0,96}(,[a-z][a-z0-9_.]{0,96}){0,63}$"},
    _metrics,
)
METRIC = Parameter(
    "metric",
    "Key of a metric.",
    {"type": "string", "pattern": "^[a-z][a-z0-9_.]{0,96}$", "default": "health.audio_score"},
    _metric,
    default="health.audio_score",
)
EVENT = Parameter(
    "event_id",
    "Id of the knob change.",
    {"type": "string", "format": "uuid"},
    _uuid,
    where="path",
    is_required=True,
)
