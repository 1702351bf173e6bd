"""What the user sees while a long step runs: one line a finished step, with its seconds, and a spinner."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Errors(Console):
    """Standard error. Where nobody reads it any more (a pipe that was closed), what was begun goes on to its end
    without words: an exit would come in whichever thread spoke, and the rest would wait for that one for ever."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


console = Errors(stderr=True, highlight=False, soft_wrap=True)


class Steps:
    def __init__(self) -> None:
        self.started = time.monotonic()
        self._running: tuple[str, Status] | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        with console.status(escape(what)) as status:
            self._running = what, status
            try:
                yield
            finally:
                self._running = None
        console.print(f" [green]✓[/] {escape(what)} [dim]({time.monotonic() - began:.1f} s)[/]")

    def note(self, what: str) -> None:
        console.print(f"   [dim]{escape(what)}[/]")

    def status(self, what: str) -> None:
        """Beside the spinner of the running step, until the next."""
        if self._running is not None:
            step, status = self._running
            status.update(f"{escape(step)} [dim]{escape(what)}[/]")

    @property
    def total_s(self) -> float:
        return time.monotonic() - self.started
