"""Words for the user: lines that go to Pulumi's display, beside the resource they are about.

Without an engine (a test that calls the provider itself) they go to the log.
"""

from __future__ import annotations

import logging
import threading

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

log = logging.getLogger(__name__)
WORD_TIMEOUT_S = 5.0


class Engine:
    def __init__(self, address: str = "") -> None:
        self._lock = threading.Lock()
        self._stub: engine_pb2_grpc.EngineStub | None = None
        if address:
            self.connect(address)

    def connect(self, address: str) -> None:
        with self._lock:
            self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))

    def say(self, urn: str, message: str) -> None:
        """A status line, which the next one replaces."""
        self._send(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=True))

    def note(self, urn: str, message: str) -> None:
        self._send(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn))

    def warn(self, urn: str, message: str) -> None:
        self._send(engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=message, urn=urn))

    def _send(self, request: engine_pb2.LogRequest) -> None:
        if self._stub is None:
            log.info("%s", request.message)
            return
        try:
            self._stub.Log(request, timeout=WORD_TIMEOUT_S)
        except grpc.RpcError as error:  # the engine is going away; the work goes on
            log.info("%s (the engine did not take it: %s)", request.message, error)
