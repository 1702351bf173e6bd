"""What a connection asks for: the options in its query as the object that admission is shown.

exec, attach, port-forward and proxy are connections whatever their method: a client may begin one by GET or POST.
Source: core/v1 API reference, PodExecOptions, PodAttachOptions, PodPortForwardOptions, PodProxyOptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from orchestrator.api.meta import Object
from orchestrator.api.resources import Subresource
from orchestrator.api.wire import Request
from orchestrator.apiserver.options import is_true
from orchestrator.apiserver.request import RequestInfo

Form = Literal["flag", "text", "texts", "numbers"]
_STREAMS: Mapping[str, Form] = {"stdin": "flag", "stdout": "flag", "stderr": "flag", "tty": "flag", "container": "text"}
_PATH: Mapping[str, Form] = {"path": "text"}
FIELDS: Mapping[str, Mapping[str, Form]] = {
    "PodAttachOptions": _STREAMS,
    "PodExecOptions": {**_STREAMS, "command": "texts"},
    "PodPortForwardOptions": {"ports": "numbers"},
    "PodProxyOptions": _PATH,
    "ServiceProxyOptions": _PATH,
    "NodeProxyOptions": _PATH,
}


def is_connection(sub: Subresource | None) -> bool:
    return sub is not None and sub.kind in FIELDS


def options_of(sub: Subresource, request: Request, info: RequestInfo) -> Object:
    """`sub` is a connection. A field that is false or empty is left out."""
    made: Object = {"kind": sub.kind, "apiVersion": "v1"}
    for name, form in FIELDS[sub.kind].items():
        value = _read(form, [text for key, text in request.query if key == name])
        if value:
            made[name] = value
    if "path" in FIELDS[sub.kind] and info.parts:
        made["path"] = "/" + "/".join(info.parts)
    return made


def _read(form: Form, values: list[str]) -> Any:
    match form:
        case "flag":
            return bool(values) and is_true(values[0])
        case "text":
            return values[0] if values else ""
        case "texts":
            return values
        case "numbers":
            return [int(port) for text in values for port in text.split(",") if port.isdecimal()]
