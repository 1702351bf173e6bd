"""Request bodies: JSON, YAML or Kubernetes' protobuf, to plain data.

What YAML means is in `yaml_text`; how deep a body may nest, in `nesting`.
Errors: UnsupportedMediaType for other encodings, RequestEntityTooLarge over BODY_BYTES_MAX, BadRequest for text that is
neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import orjson

from orchestrator.api import decoding, nesting
from orchestrator.api.meta import Object
from orchestrator.api.patch import request as patch_request
from orchestrator.api.status import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from orchestrator.api.wire import Request
from orchestrator.apiserver import yaml_text
from orchestrator.apiserver.encoding import JSON, PROTOBUF, YAML
from orchestrator.apiserver.negotiation import ENCODINGS
from orchestrator.apiserver.protobuf.decoding import decode

BODY_BYTES_MAX = 3 << 20
SUMMARY_BYTES = 30  # of a body, in what is told of one that cannot be read
_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_UNKNOWN = f"the body of the request was in an unknown format - accepted media types include: {', '.join(ENCODINGS)}"


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_size(request: Request) -> None:
    if len(request.body) > BODY_BYTES_MAX:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {BODY_BYTES_MAX}")


def read(request: Request, wanted: str) -> tuple[Object, bytes]:
    """(the body as an object, as JSON text); `wanted` is the kind that it must be of."""
    check_size(request)
    try:
        return _read(request)
    except _Unrecognized as error:
        about = f"the object provided is unrecognized (must be of type {wanted})"
        raise BadRequest(f"{about}: {error.message} ({_summary(request.body)})") from error


class _Unrecognized(BadRequest):
    """A body that does not say what it is."""


def _summary(text: bytes) -> str:
    if not text:
        return "<empty>"
    start, more = text[:SUMMARY_BYTES], " ..." if len(text) > SUMMARY_BYTES else ""
    return (start.decode(errors="replace") if text[:1] == b"{" else start.hex()) + more


def _read(request: Request) -> tuple[Object, bytes]:
    kind = media_type(request.headers)
    if kind == YAML:
        try:
            obj = from_yaml(request.body)
        except BadRequest as error:
            raise _Unrecognized(error.message.removeprefix("error converting YAML to JSON: ")) from error
        text = orjson.dumps(obj)
    elif kind in ("", JSON):
        obj, text = from_json(request.body), request.body
    elif kind == PROTOBUF:
        obj = decode(request.body)
        text = orjson.dumps(obj)
    else:
        raise UnsupportedMediaType(_UNKNOWN)
    if not isinstance(obj, dict):
        raise _Unrecognized(
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{_go_kind(obj)} into Go value of type {_TYPE_META}"
        )
    for name in ("apiVersion", "kind"):
        if not isinstance(obj.get(name, ""), (str, NoneType)):
            raise _Unrecognized(
                f"couldn't get version/kind; json parse error: json: cannot unmarshal {_go_kind(obj[name])} "
                f"into Go struct field .{name} of type string"
            )
    return obj, text


def from_json(text: bytes) -> Any:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        why = "unexpected end of JSON input" if "unexpected end" in str(error) else error
        raise _Unrecognized(f"couldn't get version/kind; json parse error: {why}") from error
    if nesting.may_be_too_deep(text) and nesting.is_too_deep(found):
        raise _Unrecognized("couldn't get version/kind; json parse error: exceeded max depth")
    return found


def from_yaml(text: bytes) -> Any:
    if text.lstrip()[:1] == b"{":
        try:
            found = orjson.loads(text)  # JSON is YAML, and much quicker to read
        except orjson.JSONDecodeError:
            pass
        else:
            if nesting.may_be_too_deep(text) and nesting.is_too_deep(found):
                raise BadRequest(f"error converting YAML to JSON: yaml: exceeded max depth of {nesting.DEPTH_MAX}")
            return found
    try:
        found = yaml_text.load(text)
    except yaml_text.YamlError as error:
        raise BadRequest(f"error converting YAML to JSON: yaml: {error}") from error
    return found


def repeated_keys(request: Request) -> list[str]:
    """The keys that a YAML body (also one that is JSON, sent to be applied) has twice in one mapping, in
    kube-apiserver's words: `line 9: key "foo" already set in map`, by the line of the value."""
    if media_type(request.headers) not in (YAML, patch_request.APPLY_PATCH):
        return []
    if request.body.lstrip()[:1] == b"{":
        try:
            if not decoding.may_repeat(request.body):
                return []
        except orjson.JSONDecodeError:
            pass
    try:
        return list(yaml_text.repeated_keys(request.body))
    except yaml_text.YamlError:  # JSON that is no YAML: it may name halves of characters
        return []


def _go_kind(value: Any) -> str:
    return {str: "string", bool: "bool", list: "array", dict: "object", NoneType: "null"}.get(type(value), "number")
