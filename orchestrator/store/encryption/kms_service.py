"""A key management service: Status, Encrypt and Decrypt of a plugin that listens on a Unix socket.

Errors: GrpcError. Source: k8s.io/kms apis/v2 api.proto, "KeyManagementService".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct

from orchestrator.store.encryption import kms_messages as messages
from orchestrator.store.encryption.grpc_call import GrpcError, call


class Status(Struct, frozen=True):
    version: str
    healthz: str
    key_id: str


class Guarded(Struct, frozen=True):
    """Something that the service encrypted: what its `Decrypt` has to be given."""

    ciphertext: bytes
    key_id: str
    annotations: Mapping[str, bytes]


class KeyService(Protocol):
    @property
    def timeout_s(self) -> float: ...

    async def status(self) -> Status: ...

    async def encrypt(self, plaintext: bytes, uid: str) -> Guarded: ...

    async def decrypt(self, guarded: Guarded, uid: str) -> bytes: ...


class KmsPlugin:
    """`told` hears of each call: (method, gRPC code, seconds). A call takes `timeout_s` at most."""

    def __init__(self, socket: str, timeout_s: float, told: Callable[[str, str, float], None]) -> None:
        self.timeout_s = timeout_s
        self._socket = socket
        self._told = told

    async def status(self) -> Status:
        answer = await self._call("Status", messages.StatusRequest(), messages.StatusResponse)
        return Status(answer.version, answer.healthz, answer.key_id)

    async def encrypt(self, plaintext: bytes, uid: str) -> Guarded:
        request = messages.EncryptRequest(plaintext=plaintext, uid=uid)
        answer = await self._call("Encrypt", request, messages.EncryptResponse)
        return Guarded(answer.ciphertext, answer.key_id, dict(answer.annotations))

    async def decrypt(self, guarded: Guarded, uid: str) -> bytes:
        request = messages.DecryptRequest(
            ciphertext=guarded.ciphertext, uid=uid, key_id=guarded.key_id, annotations=dict(guarded.annotations)
        )
        return bytes((await self._call("Decrypt", request, messages.DecryptResponse)).plaintext)

    async def _call(self, name: str, request: Any, answer: Any) -> Any:
        method, began, code = f"/v2.KeyManagementService/{name}", time.perf_counter(), "OK"
        try:
            return answer.FromString(await call(self._socket, method, request.SerializeToString(), self.timeout_s))
        except DecodeError as error:
            code = "Internal"
            raise GrpcError(code, f"the answer is no message of {name}: {error}") from error
        except GrpcError as error:
            code = error.code
            raise
        finally:
            self._told(method, code, time.perf_counter() - began)
