"""What is compared of an answer: of a failure reason, message and causes, of a success the object; warnings of both.

Left out or masked is what differs from run to run (uids, times, revisions, continue tokens, ages in tables) and what a
server chooses freely (generated names, allocated addresses and ports), unless the client sent it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

UID = "6f9b4a52-0000-4000-8000-000000000000"
VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "selfLink")
CHOSEN = ("clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort", "deletionTimestamp", "lastTransitionTime")
AGE = re.compile(r"^(\d+[smhdy])+( \(.*\))?$|^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
NODE_PORT = re.compile(r":(3[0-2]\d{3})/")
_MASKS = (
    (re.compile(r"X509SHA256=[0-9a-f]{64}"), "X509SHA256=<certificate>"),
    (re.compile(r"kube-api-access-[a-z0-9]{5}"), "kube-api-access-xxxxx"),
    (re.compile(r"(ResourceVersion in record \()\d+"), r"\1<revision>"),
    (re.compile(r"(Too large resource version: \d+, current: )\d+"), r"\1<revision>"),
)
_UIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")
# Upstream shows a value as its own Go struct in places, and a change as a diff of such; we show the wire's words.
_SHOWN_OBJECT = re.compile(r"(Invalid|Unsupported|Duplicate) value: \{.*?\}(?=$|: [^{}]*$)", re.DOTALL)
_GENERATE = re.compile(r'"generateName": "([^"]+)"')


def sent_by(case: Mapping[str, Any]) -> str:
    """All that a case's steps send, as text: what a server did not choose."""
    return json.dumps([step.get("text", step.get("body")) for step in case["steps"]])


def answer_of(code: int, body: Any, warnings: list[str], *, whole: bool, sent: str = "") -> dict[str, Any]:
    """`whole`: the object of a success too. `sent`: what was sent (`sent_by`).

    The order of several causes is not compared: kube-apiserver walks Go maps, which have none.
    """
    answer: dict[str, Any] = {"code": code}
    body = _without_generated(body, sent)
    if warnings:
        answer["warnings"] = sorted(warnings)
    if code >= 400 and isinstance(body, dict):
        causes = (body.get("details") or {}).get("causes") or []
        found = sorted({(c.get("field", ""), c.get("reason", ""), _comparable(c["message"])) for c in causes})
        message = body.get("message", "")
        answer["reason"] = body.get("reason", "")
        answer["message"] = _comparable(message) if len(found) < 2 else message.partition(" is invalid: ")[0]
        answer["causes"] = [list(cause) for cause in found]
    elif whole:
        answer["object"] = stable(body, sent)
    return answer


def _without_generated(body: Any, sent: str) -> Any:
    if not (prefixes := set(_GENERATE.findall(sent))):
        return body
    text = json.dumps(body)
    for prefix in prefixes:
        text = re.sub(f"({re.escape(prefix[:58])})[bcdfghjklmnpqrstvwxz2456789]{{5}}(?![a-z0-9])", r"\1xxxxx", text)
    return json.loads(text)


def _comparable(message: str) -> str:
    message = re.sub(r"\n[-@].*", "", message, flags=re.DOTALL)
    message = re.sub(r'value: "\{.*\}": ', "value: {…}: ", message)  # a patched document
    if message.startswith("failed to create typed"):
        message = "\n".join(sorted(message.split("\n")))
    for pattern, shown in _MASKS:
        message = pattern.sub(shown, message)
    return _UIDS.sub(UID, _SHOWN_OBJECT.sub(r"\1 value: {…}", message))


def stable(obj: Any, sent: str = "") -> Any:
    """Without what differs from run to run, without explicit nulls, and without what admission adds."""
    if not isinstance(obj, dict):
        return obj
    obj = _masked(_without_nulls(obj), sent)
    _strip_metadata(obj)
    if obj.get("kind") == "Table":
        for row in obj.get("rows", ()):
            row["cells"] = [_cell(cell, sent) for cell in row["cells"]]
            _strip_metadata(row.get("object", {}))
    elif str(obj.get("kind", "")).endswith("List"):
        for item in obj.get("items") or ():
            _strip_metadata(item)
    return obj


def _cell(cell: Any, sent: str) -> Any:
    """Without ages, times of creation, and ports that the server chose."""
    if not isinstance(cell, str):
        return cell
    chosen = NODE_PORT.sub(lambda port: port[0] if port[1] in sent else ":<chosen>/", cell)
    return AGE.sub("<age>", chosen)


def _strip_metadata(obj: Any) -> None:
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(metadata, dict):
        return
    for name in VOLATILE:
        metadata.pop(name, None)
    if "continue" in metadata:
        metadata["continue"] = "<token>"
    finalizers = [name for name in metadata.pop("finalizers", []) if not name.endswith("-protection")]
    if finalizers:
        metadata["finalizers"] = finalizers
    if isinstance(obj.get("status"), dict):
        obj["status"].pop("lastPhaseTransitionTime", None)
    for entry in metadata.get("managedFields") or ():
        entry.pop("time", None)
    if "managedFields" in metadata:
        metadata["managedFields"].sort(key=lambda e: (e["manager"], e["operation"], e.get("subresource", "")))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _masked(value: Any, sent: str, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, sent, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, sent, name) for item in value]
    if name in CHOSEN and value not in ("", "None") and str(value) not in sent:
        return "<chosen>"
    if not isinstance(value, str):
        return value
    for pattern, shown in _MASKS:
        value = pattern.sub(shown, value)
    return _UIDS.sub(UID, value)
