"""This installation as a wheel, and the lock of what it was installed with."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

FOLDER: Final = "package/"
LOCK: Final = "requirements.lock"
_NAME: Final = "monitoring-v2"
_PACKAGES: Final = ("exporter", "archiver", "dashboards", "deploy", "sql")
_METADATA: Final = ("METADATA", "WHEEL", "entry_points.txt")
# The oldest time that a zip file knows: the same packages make the same wheel.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def wheel() -> tuple[str, bytes] | None:
    """Return file name and content of a wheel of what runs here; None when it is not installed.

    Built from the packages as they are on the disk, so that an editable installation has one too.
    """
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:
        return None
    stem = f"{_NAME.replace('-', '_')}-{installed.version}"
    record: list[str] = []
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _contents(installed, f"{stem}.dist-info"):
            _write(archive, name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
        own = f"{stem}.dist-info/RECORD"
        _write(archive, own, "\n".join([*record, f"{own},,", ""]).encode())
    return f"{stem}-py3-none-any.whl", stream.getvalue()


def lock() -> bytes:
    """Return the lock file: in the checkout a link to that of the project, in the wheel a copy."""
    return (_folder("deploy") / LOCK).read_bytes()


def _contents(installed: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        folder = _folder(package)
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.is_file() and "__pycache__" not in relative.parts:
                yield f"{package}/{relative}", path.read_bytes()
    for name in _METADATA:
        text = installed.read_text(name)
        if text is not None:
            yield f"{info}/{name}", text.encode()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {package} is not installed as files")
    return Path(spec.origin).parent


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)
