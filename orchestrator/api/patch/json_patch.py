"""JSON Patch (RFC 6902): a list of add, remove, replace, move, copy and test, all or nothing.

Kubernetes' leniencies are kept, since clients rely on them: `replace` of an absent key adds it, `copy` of an absent key
copies null, `add` without a value adds null, and `test` of null holds for an absent key. Errors: JsonPatchError says
what failed; the server answers all of them alike (422, "the server rejected our request …").
"""

from __future__ import annotations

import copy
from typing import Any

import orjson

OPERATIONS_MAX = 10_000
COPIED_BYTES_MAX = 3 << 20  # of JSON that the copies of one patch may add: each could double the object


class JsonPatchError(ValueError):
    """An operation that cannot be carried out, or a test that fails."""


def apply(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The patched copy of `document`."""
    document = copy.deepcopy(document)
    copied_bytes = 0
    for operation in operations:
        if not isinstance(operation, dict):
            raise JsonPatchError("an operation must be an object")
        if operation.get("op") == "copy":
            copied_bytes += _size(_get(document, _text(operation, "from")))
            if copied_bytes > COPIED_BYTES_MAX:
                raise JsonPatchError(
                    f"Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, "
                    f"exceeding the limit {COPIED_BYTES_MAX}"
                )
        document = _apply_one(document, operation)
    return document


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError as error:  # each copy may also nest deeper
        raise JsonPatchError(str(error)) from error


def _apply_one(document: Any, operation: dict[str, Any]) -> Any:
    path = _text(operation, "path")
    match operation.get("op"):
        case "add":
            return _add(document, path, copy.deepcopy(operation.get("value")))
        case "replace":
            return _replace(document, path, copy.deepcopy(operation.get("value")))
        case "remove":
            _remove(document, path)
        case "move":
            return _add(document, path, _remove(document, _text(operation, "from")))
        case "copy":
            return _add(document, path, copy.deepcopy(_get(document, _text(operation, "from"))))
        case "test":
            if not _same(_get(document, path), operation.get("value")):
                raise JsonPatchError(f"testing value {path} failed")
        case other:
            raise JsonPatchError(f"unexpected kind of operation: {other}")
    return document


def _text(operation: dict[str, Any], name: str) -> str:
    value = operation.get(name)
    if not isinstance(value, str):
        raise JsonPatchError(f"operation has no {name}")
    return value


def _same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _holder(document: Any, path: str) -> tuple[Any, str]:
    """The object or list that `path` points into, and the last key."""
    if "/" not in path:
        raise JsonPatchError(f"doc is missing path: {path}")
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    for key in parents:
        document = _child(document, key, path)
    if not isinstance(document, (dict, list)):
        raise JsonPatchError(f"doc is missing path: {path}")
    return document, last


def _child(holder: Any, key: str, path: str) -> Any:
    if isinstance(holder, dict) and key in holder:
        return holder[key]
    if isinstance(holder, list):
        return holder[_index(key, len(holder) - 1)]
    raise JsonPatchError(f"doc is missing path: {path}")


def _index(key: str, largest: int) -> int:
    """The position that `key` names, at most `largest`; negative ones count from the end."""
    try:
        index = int(key)
    except ValueError as error:
        raise JsonPatchError(f"invalid index: {key}") from error
    if index > largest or index < -largest - 1:
        raise JsonPatchError(f"index out of range: {key}")
    return index if index >= 0 else index + largest + 1


def _get(document: Any, path: str) -> Any:
    if path == "":
        return document
    holder, key = _holder(document, path)
    return holder.get(key) if isinstance(holder, dict) else _child(holder, key, path)


def _add(document: Any, path: str, value: Any) -> Any:
    holder, key = _holder(document, path)
    if isinstance(holder, dict):
        holder[key] = value
    elif key == "-":
        holder.append(value)
    else:
        holder.insert(_index(key, len(holder)), value)
    return document


def _replace(document: Any, path: str, value: Any) -> Any:
    if path == "":
        return value
    holder, key = _holder(document, path)
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder[_index(key, len(holder) - 1)] = value
    return document


def _remove(document: Any, path: str) -> Any:
    holder, key = _holder(document, path)
    if isinstance(holder, list):
        return holder.pop(_index(key, len(holder) - 1))
    if key not in holder:
        raise JsonPatchError(f"unable to remove nonexistent key: {key}")
    return holder.pop(key)
