"""Pages and their files are kept by browsers and asked for with their tag; none is left out."""

from __future__ import annotations

import re

import pytest

from archiver.web.assets import PAGES, SHELLS, STATIC, static_files
from tests.fix_drilldown import Small

PATHS = {page.path: page.path.format(trace_id="x", event_id="x") for page in PAGES}


@pytest.mark.parametrize("path", [*PATHS.values(), "/static/app.css", "/static/player.js"])
def test_who_has_a_file_gets_304_until_it_changes(small: Small, path: str) -> None:
    """The tag of an answer is worth a 304 without a body, alone, among others and as a weak one."""
    whole = small.client.get(path)
    tag = whole.headers["etag"]
    assert (200, "no-cache") == (whole.status_code, whole.headers["cache-control"])

    for given in (tag, f"W/{tag}", f'"of-before", {tag}', "*"):
        answer = small.client.get(path, headers={"If-None-Match": given})
        assert (304, b"", tag) == (answer.status_code, answer.content, answer.headers["etag"])
        assert "content-security-policy" in answer.headers
    other = small.client.get(path, headers={"If-None-Match": '"of-before"'})

    assert (200, whole.content) == (other.status_code, other.content)


@pytest.mark.parametrize("path", PATHS.values())
def test_a_page_names_all_its_modules_by_their_content(small: Small, path: str) -> None:
    """What the head names is kept for good, and no module imports one that is not named."""
    text = small.client.get(path).text
    named = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
    modules = {name.rpartition("/")[2] for name in named if name.endswith(".js")}

    for address in named:
        answer = small.client.get(address)
        assert 200 == answer.status_code
        assert "public, max-age=31536000, immutable" == answer.headers["cache-control"]
        imported = re.findall(r'from "\./(\w+\.js)"', answer.text)
        assert set(imported) <= modules, address


def test_an_address_of_other_content_is_gone(small: Small) -> None:
    """A tag that is not the present one leads nowhere, so that nobody keeps the wrong file."""
    assert 404 == small.client.get(f"/static/{'0' * 16}/app.css").status_code


def test_every_file_of_the_package_is_used() -> None:
    """Each static file can be asked for, and each part belongs to one page."""
    assert {path.name for path in STATIC.iterdir()} == set(static_files())
    parts = {path.name for path in SHELLS.iterdir()} - {"shell.html"}
    assert parts == {page.part for page in PAGES}
