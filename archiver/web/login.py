"""Login: a token becomes a cookie, so that a browser can ask with it."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from archiver.web.access import COOKIE
from archiver.web.problems import Problem
from archiver.web.site import Site, json_answer

_MOST_BYTES = 4_096
_LASTS_S = 30 * 86_400


def login_routes(site: Site) -> list[Route]:
    """Return the routes for POST /login and /logout; the page itself is one of the pages."""
    is_secure = site.settings.public_url.startswith("https://")

    async def login(request: Request) -> Response:
        given = await _given(request)
        token = given.get("token", "").strip()
        roles = await run_in_threadpool(site.gate.token_roles, token)
        # A browser that follows the form itself wants a page; a script wants an answer.
        is_form = "text/html" in request.headers.get("accept", "")
        if roles is None and not is_form:
            raise Problem(401, "this token is not valid, or not any more")
        if roles is None:
            return RedirectResponse("/login?failed=1", 303)
        answer = json_answer({"roles": sorted(roles)})
        if is_form:
            answer = RedirectResponse(_own_path(given.get("next", "/")), 303)
        _set_cookie(answer, token, is_secure=is_secure)
        return answer

    async def logout(_: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return [
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]


def _set_cookie(answer: Response, token: str, *, is_secure: bool) -> None:
    """Let the browser carry the token: to this host alone, and out of reach of scripts."""
    answer.set_cookie(
        COOKIE, token, max_age=_LASTS_S, secure=is_secure, httponly=True, samesite="strict"
    )


async def _given(request: Request) -> dict[str, str]:
    """Return the fields of a small form or JSON object."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise Problem(413, f"a login has at most {_MOST_BYTES} bytes")
    try:
        text = body.decode()
        if "json" not in request.headers.get("content-type", ""):
            return {name: values[0] for name, values in parse_qs(text).items()}
        fields = json.loads(text)
        return {name: str(value) for name, value in fields.items()}
    except (ValueError, AttributeError, RecursionError):
        raise Problem(400, "expected a form or a JSON object with the field token") from None


def _own_path(path: str) -> str:
    """Return a path of ours; never the address of another host."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
