"""A key management service for tests (KMS v2): gRPC's own server on a Unix socket, keys derived from their names.

    with KmsPlugin(tmp_path / "kms.sock") as plugin:
        plugin.key_id = "2"                     # rotation
        plugin.healthz = "out of order"

`python -m tests.kms_plugin SOCKET` serves until it is ended, e.g. for a genuine kube-apiserver.
Its messages are described here anew, since those of the server are what is tested.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.unit.apiserver.protobuf_library import classes

_MESSAGES = classes(
    {
        "StatusRequest": {},
        "StatusResponse": {"1": ("version", "s"), "2": ("healthz", "s"), "3": ("key_id", "s")},
        "DecryptRequest": {
            "1": ("ciphertext", "y"),
            "2": ("uid", "s"),
            "3": ("key_id", "s"),
            "4": ("annotations", "{y"),
        },
        "DecryptResponse": {"1": ("plaintext", "y")},
        "EncryptRequest": {"1": ("plaintext", "y"), "2": ("uid", "s")},
        "EncryptResponse": {"1": ("ciphertext", "y"), "2": ("key_id", "s"), "3": ("annotations", "{y")},
    }
)
ANNOTATION = "local-kek.kms.example.com"
NONCE_BYTES = 12


def _key(key_id: str) -> AESGCM:
    return AESGCM(hashlib.sha256(key_id.encode()).digest())


class KmsPlugin:
    def __init__(self, socket: Path | str, key_id: str = "1") -> None:
        self.key_id = key_id
        self.version, self.healthz = "v2", "ok"
        self.encrypts_with = ""  # another key than its status names
        self.refuses: str = ""  # to decrypt, for this reason
        self.calls: list[str] = []
        self._socket = socket
        self._server: Any = None

    def __enter__(self) -> KmsPlugin:
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods = {"Status": self._status, "Encrypt": self._encrypt, "Decrypt": self._decrypt}
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=_MESSAGES[f"{name}Request"].FromString,
                response_serializer=_MESSAGES[f"{name}Response"].SerializeToString,
            )
            for name, method in methods.items()
        }
        service = grpc.method_handlers_generic_handler("v2.KeyManagementService", handlers)
        self._server.add_generic_rpc_handlers((service,))
        self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(None).wait()

    def _status(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append("Status")
        return _MESSAGES["StatusResponse"](f1=self.version, f2=self.healthz, f3=self.key_id)

    def _encrypt(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append("Encrypt")
        key_id, nonce = self.encrypts_with or self.key_id, os.urandom(NONCE_BYTES)
        sealed = nonce + _key(key_id).encrypt(nonce, request.f1, None)
        return _MESSAGES["EncryptResponse"](f1=sealed, f2=key_id, f3={ANNOTATION: b"local"})

    def _decrypt(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append("Decrypt")
        if self.refuses or dict(request.f4) != {ANNOTATION: b"local"}:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refuses or "the annotation is not mine")
        opened = _key(request.f3).decrypt(request.f1[:NONCE_BYTES], request.f1[NONCE_BYTES:], None)
        return _MESSAGES["DecryptResponse"](f1=opened)


if __name__ == "__main__":
    with KmsPlugin(sys.argv[1]):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
