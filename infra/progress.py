"""What the user sees while a long step runs: one line a finished step, with its seconds, and a spinner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


class Steps:
    def __init__(self) -> None:
        self.started = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        with console.status(what):
            yield
        console.print(f" [green]✓[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")

    def note(self, what: str) -> None:
        console.print(f"   [dim]{what}[/]")

    @property
    def total_s(self) -> float:
        return time.monotonic() - self.started
