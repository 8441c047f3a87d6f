"""Files that are written as a stream: there under their name when they are whole, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Protocol

from archiver.files import FILE_MODE, TEMPORARY


class Sink(Protocol):
    """What takes bytes: a file, or something before it."""

    def write(self, data: Any, /) -> object:
        """Take bytes."""


class Counted:
    """A stream of bytes that knows what went through it.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, sink: IO[bytes]) -> None:
        self.size = 0
        self._sink = sink
        self._digest = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Pass bytes on."""
        self.size += len(data)
        self._digest.update(data)
        return self._sink.write(data)

    def flush(self) -> None:
        """Pass on what the stream below still holds."""
        self._sink.flush()

    @property
    def sha256(self) -> str:
        """Hash of what went through, in hex."""
        return self._digest.hexdigest()


@contextmanager
def whole_file(path: Path, mode: int = FILE_MODE) -> Iterator[IO[bytes]]:
    """Yield a stream that becomes ``path``, with these permissions, when the block ends well.

    Raises:
        OSError: It could not be written; what was at ``path`` before is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, mode), "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def own_version() -> str:
    """Return the version of this installation; ``unknown`` for a checkout that is not installed."""
    try:
        return version("monitoring-v2")
    except PackageNotFoundError:
        return "unknown"
