"""The endpoints of the pages and their files: no name of a client is looked up on disk."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from archiver.web.assets import PAGES, Asset, assemble, static_files, tag_of
from archiver.web.problems import Problem

FRESH = "no-cache"
"""To be kept, and asked for with its tag before it is used."""
FOR_GOOD = "public, max-age=31536000, immutable"


def page_routes() -> list[Route]:
    """Return the routes of the pages and of /static/; reads the files."""
    files = static_files()
    kept = f"{tag_of(files)}/"

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        found = files.get(name.removeprefix(kept))
        if found is None:
            raise Problem(404, "there is no such page")
        return _answer(request, found, FOR_GOOD if name.startswith(kept) else FRESH)

    pages = [_page_route(page.path, assemble(page, files)) for page in PAGES]
    return [*pages, Route("/static/{name:path}", static, methods=["GET"])]


def _page_route(path: str, page: Asset) -> Route:
    async def endpoint(request: Request) -> Response:
        return _answer(request, page, FRESH)

    return Route(path, endpoint, methods=["GET"])


def _answer(request: Request, found: Asset, cache: str) -> Response:
    """Answer a file, or 304 to somebody who has it."""
    headers = {"Cache-Control": cache, "ETag": found.tag}
    if _has(request.headers.get("if-none-match", ""), found.tag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.media_type)


def _has(given: str, tag: str) -> bool:
    """Tell whether the header If-None-Match names a tag; a weak one will do."""
    tags = [each.strip().removeprefix("W/") for each in given.split(",")]
    return tag in tags or tags == ["*"]
