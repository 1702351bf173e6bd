"""Back-off between tries of one thing (a container's restart, an image's pull): 10 s, doubled to at most 300 s.

The first try has no delay. A key that was left alone for twice the maximum begins anew. Units: seconds of the given
times. Source: Kubernetes docs, "Pod lifecycle", container restarts; client-go util/flowcontrol Backoff.
"""

from __future__ import annotations

from msgspec import Struct

FIRST_S = 10.0
MAX_S = 300.0


class _Entry(Struct):
    delay_s: float
    at: float


class Backoff:
    def __init__(self, first_s: float = FIRST_S, max_s: float = MAX_S) -> None:
        self._first_s, self._max_s = first_s, max_s
        self._entries: dict[str, _Entry] = {}

    def until(self, key: str, failed_at: float) -> float:
        """When what failed at that time may be tried again; `failed_at` itself where there is no delay yet."""
        entry = self._entries.get(key)
        if entry is None or failed_at - entry.at > 2 * self._max_s:
            return failed_at
        return failed_at + entry.delay_s

    def delay_s(self, key: str) -> float:
        entry = self._entries.get(key)
        return entry.delay_s if entry else 0.0

    def next(self, key: str, now: float) -> None:
        """It is tried now: the following try waits longer."""
        entry = self._entries.get(key)
        if entry is None or now - entry.at > 2 * self._max_s:
            self._entries[key] = _Entry(self._first_s, now)
        else:
            entry.delay_s, entry.at = min(entry.delay_s * 2, self._max_s), now

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)


def shown(seconds: float) -> str:
    """A duration as Go prints it: `10s`, `1m20s`, `5m0s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
