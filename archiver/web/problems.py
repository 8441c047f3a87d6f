"""Errors as ``application/problem+json`` (RFC 9457), whatever raised them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from archiver.database import AnyDatabaseError, NoSchemaError
from archiver.pool import PoolBusyError

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_AWAY = {"Retry-After": "2"}


class Problem(Exception):  # noqa: N818 - the word of the standard
    """A request cannot be answered; says why in words for the person who asked.

    Args:
        status: HTTP status.
        detail: One sentence.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        title = HTTPStatus(self.status).phrase
        body = {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }
        return Response(json.dumps(body), self.status, self.headers, media_type=MEDIA_TYPE)


def from_problem(_: Request, error: Exception) -> Response:
    """Answer a problem that was raised."""
    if not isinstance(error, Problem):
        raise error
    return error.response()


def from_http(_: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    return Problem(error.status_code, str(error.detail), error.headers).response()


def from_database(_: Request, error: Exception) -> Response:
    """Answer for a database that is away, busy, too slow or without its tables."""
    _log.warning("the drill-down has no answer of the database: %s", str(error).strip())
    if isinstance(error, NoSchemaError):
        return Problem(503, "the database lacks tables: run `monitoring db init`").response()
    return Problem(503, "the database does not answer; try again", _AWAY).response()


def from_bug(request: Request, error: Exception) -> Response:
    """Answer for a mistake of ours; the server logs it."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(500, "a mistake of the server; its log says more").response()


HANDLERS = {
    Problem: from_problem,
    HTTPException: from_http,
    AnyDatabaseError: from_database,
    PoolBusyError: from_database,
    Exception: from_bug,
}
"""For Starlette: which error is answered by what."""
