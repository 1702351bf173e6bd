"""When a refused request may come back: the longer the more are refused, so that clients ease off.

Counted by second for one priority level. Where the last `after_s` seconds refused three requests a second or more, the
time is doubled (at most once in that time, up to RETRY_AFTER_MAX_S); where less than one a second, it shrinks by one.
Source: kube-apiserver's dropped requests tracker.
"""

from __future__ import annotations

from collections import deque

RETRY_AFTER_MAX_S = 32


class RetryAfter:
    def __init__(self) -> None:
        self.after_s = 1
        self._raised_at = 0
        self._second, self._count = 0, 0
        self._past: deque[tuple[int, int]] = deque()  # (second, how many were refused in it), oldest first

    def refused(self, now_s: float) -> int:
        """Notes one more; returns the seconds to tell it. `now_s`: any clock that counts seconds."""
        second = int(now_s)
        if second == self._second:
            self._count += 1
        else:
            self._past.append((self._second, self._count))
            self._second, self._count = second, 1
            while self._past and second - self._past[0][0] > min(2 * self.after_s, RETRY_AFTER_MAX_S):
                self._past.popleft()
            self._adjust(second)
        return self.after_s

    def _adjust(self, second: int) -> None:
        lately = sum(count for when, count in self._past if when < second <= when + self.after_s)
        if second - self._raised_at >= self.after_s and lately >= 3 * self.after_s:
            self.after_s = min(2 * self.after_s, RETRY_AFTER_MAX_S)
            self._raised_at = second
        elif lately < self.after_s and self.after_s > 1:
            self.after_s -= 1
