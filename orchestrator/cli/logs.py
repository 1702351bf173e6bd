"""Component logs: one line a record, `key=value` for the fields that a call gave in `extra`. Times are UTC."""

from __future__ import annotations

import logging
import time

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Libraries whose information is about themselves.
_QUIET = ("aiohttp.access", "asyncio", "pyroute2")


class Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value!r}" for key, value in vars(record).items() if key not in _KNOWN)
        return super().formatMessage(record) + fields


def configure(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
