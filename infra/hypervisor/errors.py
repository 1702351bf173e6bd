"""What stops a machine from being a hypervisor: always a cause and a remedy."""

from __future__ import annotations


class HypervisorError(RuntimeError):
    """The message says what failed, and on the next line what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy
