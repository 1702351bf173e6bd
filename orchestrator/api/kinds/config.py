"""ConfigMap, Secret and ServiceAccount: named data for pods, and the identity they run as.

Both kinds of data may be marked immutable, for good. A Secret's type says which keys it must have.
Source: core/v1 API reference.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from orchestrator.api.status import Cause

DATA_BYTES_MAX = 1024 * 1024
IS_SET = "field is immutable when `immutable` is set"
SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"
TOKEN, DOCKERCFG, DOCKERCONFIG = (
    "kubernetes.io/service-account-token",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
)
# Types whose keys must all be there, and the one type where one of two is enough.
_KEYS = {"kubernetes.io/tls": ("tls.crt", "tls.key"), "kubernetes.io/ssh-auth": ("ssh-privatekey",)}
_JSON_KEYS = {DOCKERCFG: ".dockercfg", DOCKERCONFIG: ".dockerconfigjson"}


def config_map(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in data:
        causes += faults.each(f"data[{key}]", key, formats.config_key(key))
        if key in binary:
            causes.append(faults.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in binary:
        causes += faults.each(f"binaryData[{key}]", key, formats.config_key(key))
    size = sum(len(value.encode()) for value in data.values()) + sum(map(_decoded_size, binary.values()))
    return [*causes, faults.too_long("", DATA_BYTES_MAX)] if size > DATA_BYTES_MAX else causes


def _decoded_size(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


def config_map_update(new: Object, old: Object) -> list[Cause]:
    return _frozen(new, old, "data", "binaryData") + config_map(new)


def _frozen(new: Object, old: Object, *names: str) -> list[Cause]:
    if not old.get("immutable"):
        return []
    changed = [name for name in names if (new.get(name) or {}) != (old.get(name) or {})]
    if not new.get("immutable"):
        changed.insert(0, "immutable")
    return [faults.forbidden(name, IS_SET) for name in changed]


def default_secret(obj: Object) -> None:
    """`stringData` is written into `data` and gone."""
    if not obj.get("type"):
        obj["type"] = "Opaque"
    plain: Mapping[str, str] = obj.pop("stringData", None) or {}
    if plain:
        data = obj.setdefault("data", {})
        data.update({key: base64.b64encode(value.encode()).decode() for key, value in plain.items()})


def secret(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    data: Mapping[str, str] = obj.get("data") or {}
    for key in data:
        causes += faults.each(f"data[{key}]", key, formats.config_key(key))
    if sum(map(_decoded_size, data.values())) > DATA_BYTES_MAX:
        causes.append(faults.too_long("data", DATA_BYTES_MAX))
    kind = obj.get("type") or ""
    if kind == TOKEN and not meta.annotations(obj).get(SERVICE_ACCOUNT_NAME):
        causes.append(faults.required(f"metadata.annotations[{SERVICE_ACCOUNT_NAME}]"))
    elif kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        causes += [faults.required("data[username]"), faults.required("data[password]")]
    for key in _KEYS.get(kind, ()):
        if key not in data:
            causes.append(faults.required(f"data[{key}]"))
    if kind in _JSON_KEYS:
        causes += _json_value(data, _JSON_KEYS[kind])
    return causes


def _json_value(data: Mapping[str, str], key: str) -> list[Cause]:
    if key not in data:
        return [faults.required(f"data[{key}]")]
    try:
        parsed: Any = orjson.loads(base64.b64decode(data[key]) or b"null")
    except orjson.JSONDecodeError:
        found = base64.b64decode(data[key]).decode(errors="replace").strip()
        why = f"invalid character '{found[:1]}' looking for beginning of value"
        return [faults.invalid(f"data[{key}]", "<secret contents redacted>", why)]
    if not isinstance(parsed, dict):
        kind = {str: "string", bool: "bool", list: "array"}.get(type(parsed), "number")
        why = f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        return [faults.invalid(f"data[{key}]", "<secret contents redacted>", why)]
    return []


def secret_update(new: Object, old: Object) -> list[Cause]:
    causes = faults.immutable("type", new.get("type"), old.get("type"))
    return causes + _frozen(new, old, "data") + secret(new)


def keep_secret_type(new: Object, old: Object) -> None:
    """Defaulting made Opaque of a type that the client left out, where the Secret has another."""
    if new.get("type") == "Opaque" and not old.get("type"):
        new.pop("type")


def _config_map_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _secret_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), obj.get("type") or "", len(obj.get("data") or {}), age(obj, now)]


def _keep_names_of_secrets(account: Object) -> None:
    """They can be in the account's namespace only, and be Secrets only."""
    if account.get("secrets"):
        account["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in account["secrets"]]


RULES = (
    KindRules(
        resource=CONFIGMAPS,
        faults=config_map,
        update_faults=config_map_update,
        columns=(NAME, *table.texts("Data"), AGE),
        cells=_config_map_cells,
    ),
    KindRules(
        resource=SECRETS,
        default=default_secret,
        on_update=keep_secret_type,
        faults=secret,
        update_faults=secret_update,
        columns=(NAME, *table.texts("Type"), Column("Data"), AGE),
        cells=_secret_cells,
    ),
    KindRules(
        resource=SERVICEACCOUNTS,
        on_create=_keep_names_of_secrets,
        on_update=lambda new, old: _keep_names_of_secrets(new),
    ),
)
