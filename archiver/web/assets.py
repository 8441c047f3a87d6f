"""What the pages are made of: files of the package, read once; a page is a shell around its part.

The address of a file names the content of them all (``/static/<tag>/player.js``), so that a browser
keeps it for good and asks again when anything has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

STATIC = Path(__file__).parent / "static"
SHELLS = Path(__file__).parent / "shells"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_IMPORT = re.compile(r'^(?:import|export)\b[^;]*?"\./([a-z]+\.js)";', re.MULTILINE)
_LINKS = {"/": "Calls", "/now": "Now"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent.

    Attributes:
        body: Its bytes.
        media_type: What they are.
        tag: Of its content, as it stands in ``ETag``.
    """

    body: bytes
    media_type: str
    tag: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page: a shell without data, whose script asks the API.

    Attributes:
        path: Where it is, with names in braces.
        title: Before the script knows better.
        part: Its file among the shells.
        script: Its first module.
    """

    path: str
    title: str
    part: str
    script: str


PAGES = (
    Page("/", "Calls", "index.html", "calls.js"),
    Page("/call/{trace_id}", "Call", "call.html", "call.js"),
    Page("/go", "Worst moments", "go.html", "go.js"),
    Page("/knob/{event_id}", "Knob change", "knob.html", "knob.js"),
    Page("/now", "Now", "now.html", "now.js"),
    Page("/login", "Log in", "login.html", "login.js"),
)


def asset(body: bytes, media_type: str) -> Asset:
    """Return bytes as they are sent."""
    return Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def static_files() -> dict[str, Asset]:
    """Read the static files, by name."""
    paths = sorted(path for path in STATIC.iterdir() if path.suffix in MEDIA_TYPES)
    return {path.name: asset(path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in paths}


def tag_of(files: Mapping[str, Asset]) -> str:
    """Return the tag of all files together, which is part of their addresses."""
    text = "".join(f"{name} {each.tag}\n" for name, each in files.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assemble(page: Page, files: Mapping[str, Asset]) -> Asset:
    """Put a page together: the head names all modules, so that none waits for another."""
    static = f"/static/{tag_of(files)}"
    modules = [name for name in _modules(page.script, files) if name != page.script]
    text = Template((SHELLS / "shell.html").read_text(encoding="utf-8")).substitute(
        title=page.title,
        static=static,
        script=page.script,
        modules="\n".join(f'  <link rel="modulepreload" href="{static}/{m}">' for m in modules),
        links="\n".join(f"      {_link(path, page)}" for path in _LINKS),
        body=(SHELLS / page.part).read_text(encoding="utf-8").rstrip("\n"),
    )
    return asset(text.encode(), "text/html")


def _link(path: str, page: Page) -> str:
    here = ' aria-current="page"' if path == page.path else ""
    return f'<a href="{path}"{here}>{_LINKS[path]}</a>'


def _modules(script: str, files: Mapping[str, Asset]) -> list[str]:
    """Return a module and all that it imports, also through others."""
    found = [script]
    for name in found:  # grows while it is walked
        found += [each for each in _imports(files[name]) if each not in found]
    return found


def _imports(module: Asset) -> Iterator[str]:
    yield from dict.fromkeys(_IMPORT.findall(module.body.decode()))
