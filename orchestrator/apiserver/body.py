"""Request bodies: JSON, YAML or Kubernetes' protobuf, to plain data.

YAML means here what it means to kube-apiserver, YAML 1.1: `y`, `on` and `yes` are true, `0644` is octal, a date stays
text. Errors: UnsupportedMediaType for other encodings, RequestEntityTooLarge over BODY_BYTES_MAX, BadRequest for text
that is neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from orchestrator.api import decoding
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.patch import request as patch_request
from orchestrator.api.status import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from orchestrator.api.wire import Request
from orchestrator.apiserver.encoding import JSON, PROTOBUF, YAML
from orchestrator.apiserver.negotiation import ENCODINGS
from orchestrator.apiserver.protobuf.decoding import decode

BODY_BYTES_MAX = 3 << 20
SCHEME = "pkg/runtime/scheme.go:111"  # kube-apiserver names the place in its code, and people search for the whole line
_UNKNOWN = f"the body of the request was in an unknown format - accepted media types include: {', '.join(ENCODINGS)}"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.1 as go-yaml reads it."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def _resolve(tag: str, pattern: str, first: str) -> None:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolve("bool", "y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO")
_resolve("int", "[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789")
_resolve("float", r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789.")
_resolve("merge", "<<", "<")
Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def _bool(loader: Any, node: Any) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


def _float(loader: Any, node: Any) -> float | int:
    value = float(loader.construct_scalar(node).replace("_", ""))
    return int(value) if value.is_integer() else value


def _int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "").replace("0o", "0")
    return int(yaml.SafeLoader.construct_yaml_int(loader, yaml.ScalarNode(node.tag, text)))


Loader.add_constructor("tag:yaml.org,2002:bool", _bool)
Loader.add_constructor("tag:yaml.org,2002:float", _float)
Loader.add_constructor("tag:yaml.org,2002:int", _int)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_size(request: Request) -> None:
    if len(request.body) > BODY_BYTES_MAX:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {BODY_BYTES_MAX}")


def read(request: Request) -> tuple[Object, bytes]:
    """(the body as an object, as JSON text)."""
    check_size(request)
    kind = media_type(request)
    if kind == YAML:
        obj = from_yaml(request.body)
        text = orjson.dumps(obj)
    elif kind in ("", JSON):
        obj, text = from_json(request.body), request.body
    elif kind == PROTOBUF:
        obj = decode(request.body)
        text = orjson.dumps(obj)
    else:
        raise UnsupportedMediaType(_UNKNOWN)
    if not isinstance(obj, dict):
        raise BadRequest(
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{_go_kind(obj)} into Go value of type struct {{ APIVersion string; Kind string }}"
        )
    return obj, text


def from_json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"couldn't get version/kind; json parse error: {error}") from error


def from_yaml(text: bytes) -> Any:
    if text.lstrip()[:1] == b"{":
        try:
            return orjson.loads(text)  # JSON is YAML, and much quicker to read
        except orjson.JSONDecodeError:
            pass
    try:
        return _text_keys(yaml.load(text, Loader=Loader))
    except (yaml.YAMLError, ValueError) as error:
        raise BadRequest(f"error converting YAML to JSON: yaml: {error}") from error


def repeated_keys(request: Request) -> list[str]:
    """The keys that a YAML body (also one that is JSON, sent to be applied) has twice in one mapping, in
    kube-apiserver's words: `line 9: key "foo" already set in map`, by the line of the value."""
    if media_type(request) not in (YAML, patch_request.APPLY_PATCH):
        return []
    if request.body.lstrip()[:1] == b"{":
        try:
            if not decoding.may_repeat(request.body):
                return []
        except orjson.JSONDecodeError:
            pass
    loader = Loader(request.body)
    try:
        node = loader.get_single_node()
        return list(_repeats(loader, node)) if node is not None else []
    finally:
        loader.dispose()


def _repeats(loader: Any, node: Any) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeats(loader, item)
    elif isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key_node, value in node.value:
            yield from _repeats(loader, value)
            if isinstance(key_node, yaml.ScalarNode) and not key_node.tag.endswith(":merge"):
                key = loader.construct_object(key_node)
                if (type(key), key) in seen:
                    yield f"line {value.start_mark.line + 1}: key {faults.shown(key)} already set in map"
                seen.add((type(key), key))


def _text_keys(value: Any) -> Any:
    """JSON has text keys only; YAML's others become what kube-apiserver writes for them. It sorts them: the first fault
    in that order is the one that is told."""
    if isinstance(value, dict):
        return {key: _text_keys(inner) for key, inner in _sorted(value)}
    if isinstance(value, list):
        return [_text_keys(inner) for inner in value]
    return value


def _sorted(mapping: dict[Any, Any]) -> list[tuple[str, Any]]:
    return sorted(((_key(key), inner) for key, inner in mapping.items()), key=lambda pair: pair[0])


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


def _go_kind(value: Any) -> str:
    return {str: "string", bool: "bool", list: "array", type(None): "null"}.get(type(value), "number")
