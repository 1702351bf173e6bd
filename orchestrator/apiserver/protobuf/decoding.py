"""From protobuf to the JSON that it stands for: what typed Go clients send (`kubectl create …` too).

Zero values that Go would leave out are pruned later, by the same decoding that JSON bodies pass.
Errors: BadRequest for bytes that do not parse.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.status import BadRequest
from orchestrator.apiserver.protobuf import envelope
from orchestrator.apiserver.protobuf.special import SPECIAL, wrapped
from orchestrator.apiserver.protobuf.table import message_name, messages
from orchestrator.apiserver.protobuf.wire import Malformed, fields, signed, text_or_bytes

_DEPTH_MAX = 100


def decode(body: bytes) -> Object:
    """The object that a protobuf body holds, with its apiVersion and kind."""
    try:
        api_version, kind, raw = envelope.opened(body)
        name = message_name(api_version, kind)
        if name is None:
            raise Malformed(f'no kind "{kind}" is registered for version "{api_version}"')
        found: Object = message(raw, name, 0)
    except (ValueError, OverflowError, OSError, struct.error) as error:  # of bytes, text and times
        raise BadRequest(f"the body of the request could not be decoded as protobuf: {error}") from error
    return {"kind": kind, "apiVersion": api_version, **found}


def message(data: bytes, name: str, depth: int = 0) -> Any:
    """The JSON of the message `name`; Malformed."""
    if depth > _DEPTH_MAX:
        raise Malformed("nested too deeply")
    if name in SPECIAL:
        return SPECIAL[name][0](data)
    types = messages()[name]
    found: dict[str, Any] = {}
    for number, raw in fields(data):
        known = types.get(str(number))
        if known is None:
            continue  # a field of a newer client
        field, kind = known
        if kind[0] == "~":
            found.update(message(text_or_bytes(raw), kind[1:], depth + 1))
        elif kind[0] == "*":
            found.setdefault(field, []).append(_value(raw, kind[1:], depth))
        elif kind[0] == "{":
            pair = dict(fields(text_or_bytes(raw)))
            key = text_or_bytes(pair.get(1, b"")).decode()
            found.setdefault(field, {})[key] = _value(pair.get(2, _zero(kind[1:])), kind[1:], depth)
        else:
            value = _value(raw, kind, depth)
            if value is not None:
                found[field] = value
    inner = wrapped(name)
    return inner[0](found) if inner else found


def _zero(kind: str) -> int | bytes:
    return 0 if kind in ("b", "i") else b""


def _value(raw: int | bytes, kind: str, depth: int) -> Any:
    match kind:
        case "s":
            return text_or_bytes(raw).decode()
        case "i":
            if isinstance(raw, bytes) and len(raw) not in (4, 8):
                raise Malformed("bytes where a number belongs")
            return signed(int.from_bytes(raw, "little") if isinstance(raw, bytes) else raw)
        case "b":
            return bool(raw)
        case "d":
            real = float(struct.unpack("<d", text_or_bytes(raw))[0])
            return int(real) if real.is_integer() and abs(real) < 2**63 else real  # as Go writes it
        case "y":
            return base64.b64encode(text_or_bytes(raw)).decode()
    return message(text_or_bytes(raw), kind, depth + 1)
