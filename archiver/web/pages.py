"""The pages and what they are made of: files of the package, and nothing a client names."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from archiver.web.problems import Problem

STATIC = Path(__file__).parent / "static"
PAGES = {
    "/": "index.html",
    "/call/{trace_id}": "call.html",
    "/go": "go.html",
    "/knob/{event_id}": "knob.html",
    "/now": "now.html",
    "/login": "login.html",
}
"""Shells without data: their scripts ask the API, which asks who they are."""
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,64}/){0,2}[A-Za-z0-9_-]{1,64}(?P<ending>\.[a-z]{2,4})")


def page_routes() -> list[Route]:
    """Return the routes of the pages and of /static/."""
    pages = [Route(path, _page, name=name, methods=["GET"]) for path, name in PAGES.items()]
    return [*pages, Route("/static/{name:path}", _static, methods=["GET"])]


def _page(request: Request) -> Response:
    return _file(request.scope["route"].name)


def _static(request: Request) -> Response:
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    match = _NAME.fullmatch(name)
    media_type = MEDIA_TYPES.get(match["ending"]) if match else None
    path = STATIC / name
    if media_type is None or not path.is_file():
        raise Problem(404, "there is no such page")
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "no-cache"})
