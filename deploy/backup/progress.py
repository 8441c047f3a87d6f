"""How far it is: a bar on a terminal, a line now and then elsewhere; always on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S: Final = 10.0


class Steps:
    """Shows one step after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._done = 0
        self._total: int | None = None
        self._next_line = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show steps for the time of the block."""
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def begin(self, name: str, total: int | None = None) -> None:
        """Begin a step of so many bytes; None is unknown."""
        self._name, self._total, self._done = name, total, 0
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=total)
        else:
            self._line()

    def advance(self, by: int) -> None:
        """Note that so many bytes more are done."""
        self._done += by
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, by)
        elif self._bar is None and time.monotonic() >= self._next_line:
            self._line()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _line(self) -> None:
        self._next_line = time.monotonic() + LINE_EVERY_S
        done = f": {self._done / 1e6:,.1f} MB" if self._done else ""
        of = f" of {self._total / 1e6:,.1f}" if self._done and self._total else ""
        self.say(f"{self._name}{done}{of}")
