"""The messages of a key management service (v2), and the one that sealed values are: small classes, made at start.

Source: k8s.io/kms apis/v2 api.proto; k8s.io/apiserver encrypt/envelope/kmsv2/v2 api.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"string": 9, "bytes": 12, "int32": 5, "map": 11}
_OPTIONAL, _REPEATED = 1, 3
# name → the fields by their numbers, from 1
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "StatusRequest": (),
    "StatusResponse": (("version", "string"), ("healthz", "string"), ("key_id", "string")),
    "DecryptRequest": (("ciphertext", "bytes"), ("uid", "string"), ("key_id", "string"), ("annotations", "map")),
    "DecryptResponse": (("plaintext", "bytes"),),
    "EncryptRequest": (("plaintext", "bytes"), ("uid", "string")),
    "EncryptResponse": (("ciphertext", "bytes"), ("key_id", "string"), ("annotations", "map")),
    "EncryptedObject": (
        ("data", "bytes"), ("key_id", "string"), ("source", "bytes"), ("annotations", "map"), ("source_type", "int32"),
    ),
}  # fmt: skip


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="kms.proto", package="v2", syntax="proto3")
    for name, fields in _MESSAGES.items():
        made = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            label = _REPEATED if kind == "map" else _OPTIONAL
            described = made.field.add(name=field, number=number, type=_TYPES[kind], label=label)
            if kind == "map":
                described.type_name = f".v2.{name}.AnnotationsEntry"
                entry = made.nested_type.add(name="AnnotationsEntry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, type=_TYPES["string"], label=_OPTIONAL)
                entry.field.add(name="value", number=2, type=_TYPES["bytes"], label=_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v2.{name}")) for name in _MESSAGES}


_MADE = _classes()
StatusRequest, StatusResponse = _MADE["StatusRequest"], _MADE["StatusResponse"]
DecryptRequest, DecryptResponse = _MADE["DecryptRequest"], _MADE["DecryptResponse"]
EncryptRequest, EncryptResponse = _MADE["EncryptRequest"], _MADE["EncryptResponse"]
EncryptedObject = _MADE["EncryptedObject"]
