"""What stops the tools of the VM lab from being there: always a cause and a remedy."""

from __future__ import annotations


class ToolchainError(RuntimeError):
    """The message says what failed, and on the next line what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy[:1].upper()}{remedy[1:]}")
        self.cause = cause
        self.remedy = remedy
