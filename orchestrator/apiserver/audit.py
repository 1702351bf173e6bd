"""Audit: who asked for what, and what came of it, one JSON event a line.

A policy says how much of each request is kept: nothing, the metadata, the request's object, or the answer's too. Events
are written when a request is received, when a long answer starts, and when it is complete. Lines go to the file from a
thread of its own; a file grows to `max_bytes` and is then renamed. Every answer carries its Audit-Id.
Errors: PolicyError, which names the field. Source: Tasks, "Auditing"; audit.k8s.io/v1 Event and Policy.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml
from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.patch.request import APPLY_PATCH
from orchestrator.api.status import BadRequest
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver import encoding
from orchestrator.apiserver.body import from_yaml, media_type
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.request import RequestInfo

log = logging.getLogger(__name__)

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
RECEIVED, STARTED, COMPLETE = "RequestReceived", "ResponseStarted", "ResponseComplete"
STAGES = (RECEIVED, STARTED, COMPLETE, "Panic")
MAX_BYTES = 100 << 20
KEPT_FILES = 10
QUEUED_MAX = 10_000  # events that wait for the disk; more are dropped, and counted


class PolicyError(ValueError):
    """An audit policy that cannot be; the text names the field."""


class Rule(Struct, frozen=True):
    level: str
    omitted: frozenset[str]
    omits_managed_fields: bool
    raw: Mapping[str, Any]

    def matches(self, info: RequestInfo, user: Identity) -> bool:
        raw = self.raw
        if raw.get("users") and user.name not in raw["users"]:
            return False
        if raw.get("userGroups") and not set(raw["userGroups"]) & set(user.groups):
            return False
        if raw.get("verbs") and info.verb not in raw["verbs"]:
            return False
        if not raw.get("namespaces") and not raw.get("resources") and not raw.get("nonResourceURLs"):
            return True
        if not info.is_resource:
            return any(_url(pattern, info.path) for pattern in raw.get("nonResourceURLs") or ())
        if raw.get("namespaces") and info.namespace not in raw["namespaces"]:
            return False
        if not raw.get("resources"):
            return bool(raw.get("namespaces"))
        return any(_resource(one, info) for one in raw["resources"])


def _url(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _resource(one: Mapping[str, Any], info: RequestInfo) -> bool:
    if (one.get("group") or "") != info.group:
        return False
    names = one.get("resourceNames")
    if names and info.name not in names:
        return False
    wanted = one.get("resources")
    if not wanted:
        return True
    full = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return any(
        name in ("*", full) or (info.subresource and name in (f"*/{info.subresource}", f"{info.resource}/*"))
        for name in wanted
    )


class Policy:
    """The first rule that a request matches decides; without one nothing is kept."""

    def __init__(self, data: Any) -> None:
        if not isinstance(data, dict) or data.get("kind") != "Policy":
            raise PolicyError("kind: must be Policy (audit.k8s.io/v1)")
        if not data.get("rules"):
            raise PolicyError("rules: must not be empty")
        everywhere = frozenset(data.get("omitStages") or ())
        self.rules: list[Rule] = []
        for index, raw in enumerate(data["rules"]):
            level = raw.get("level")
            if level not in LEVELS:
                raise PolicyError(f"rules[{index}].level: {level!r}: must be one of {', '.join(LEVELS)}")
            omitted = everywhere | frozenset(raw.get("omitStages") or ())
            if wrong := omitted - set(STAGES):
                raise PolicyError(f"omitStages: {sorted(wrong)}: must be among {', '.join(STAGES)}")
            if (raw.get("resources") or raw.get("namespaces")) and raw.get("nonResourceURLs"):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                raise PolicyError(f"rules[{index}].nonResourceURLs: {why}")
            managed = raw.get("omitManagedFields", data.get("omitManagedFields", False))
            self.rules.append(Rule(level, omitted, bool(managed), raw))

    @classmethod
    def read(cls, path: str | Path) -> Policy:
        try:
            return cls(yaml.safe_load(Path(path).read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise PolicyError(f"{path}: {error}") from error

    def rule(self, info: RequestInfo, user: Identity) -> Rule | None:
        found = next((rule for rule in self.rules if rule.matches(info, user)), None)
        return None if found is None or found.level == "None" else found


class Record(Struct):
    """One request on its way; `user` and `annotations` are filled in as they are known."""

    request: Request
    info: RequestInfo
    received: float
    audit_id: str
    user: Identity | None = None
    impersonated: Identity | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    rule: Rule | None = None


class Audit:
    def __init__(self, policy: Policy, path: str | Path, max_bytes: int = MAX_BYTES) -> None:
        self._policy, self._path, self._max_bytes = policy, Path(path), max_bytes
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUED_MAX)
        self.dropped = 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._write, name="audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what waits."""
        self._queue.put(None)
        self._thread.join()

    def begin(self, request: Request, info: RequestInfo) -> Record:
        given = request.headers.get("audit-id", "")
        return Record(request, info, time.time(), given if 0 < len(given) <= 64 else str(uuid.uuid4()))

    def known(self, record: Record, user: Identity, impersonated: Identity | None) -> None:
        """Who asks is known: from here on there may be something to keep."""
        record.user, record.impersonated = user, impersonated
        record.rule = self._policy.rule(record.info, impersonated or user)
        if record.rule is not None and RECEIVED not in record.rule.omitted:
            self._put(record, RECEIVED, None)

    def done(self, record: Record, answer: Response) -> None:
        answer.headers["audit-id"] = record.audit_id
        if record.rule is None:
            return
        stage = COMPLETE if isinstance(answer.body, bytes) else STARTED
        if stage not in record.rule.omitted:
            self._put(record, stage, answer)

    def _put(self, record: Record, stage: str, answer: Response | None) -> None:
        try:
            self._queue.put_nowait(orjson.dumps(event(record, stage, answer)) + b"\n")
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        file = self._path.open("ab")
        while (line := self._queue.get()) is not None:
            try:
                if file.tell() > self._max_bytes:
                    file.close()
                    self._rotate()
                    file = self._path.open("ab")
                file.write(line)
                if self._queue.empty():
                    file.flush()
            except OSError as error:
                self.dropped += 1
                log.error("audit event not written", extra={"path": str(self._path), "error": str(error)})
        file.close()

    def _rotate(self) -> None:
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        old = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        for file in old[:-KEPT_FILES]:
            file.unlink(missing_ok=True)


# -- events ------------------------------------------------------------------------------------------------------------


def event(record: Record, stage: str, answer: Response | None) -> Object:
    """The audit.k8s.io/v1 Event of one stage."""
    request, info, rule = record.request, record.info, record.rule
    assert rule is not None and record.user is not None
    query = "&".join(f"{key}={value}" for key, value in request.query)
    made: Object = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": rule.level,
        "auditID": record.audit_id,
        "stage": stage,
        "requestURI": f"{request.path}?{query}" if query else request.path,
        "verb": info.verb,
        "user": _user(record.user),
        "sourceIPs": [request.remote_address] if request.remote_address else [],
        "userAgent": request.headers.get("user-agent", ""),
        "requestReceivedTimestamp": meta.format_micro_time(record.received),
        "stageTimestamp": meta.format_micro_time(time.time()),
    }
    if record.impersonated is not None:
        made["impersonatedUser"] = _user(record.impersonated)
    if info.is_resource:
        named = {
            "resource": info.resource, "namespace": info.namespace, "name": info.name, "apiGroup": info.group,
            "apiVersion": info.version, "subresource": info.subresource,
        }  # fmt: skip
        made["objectRef"] = {key: value for key, value in named.items() if value}
    if record.annotations:
        made["annotations"] = dict(record.annotations)
    if answer is not None:
        made |= _answered(record, answer, rule)
    return made


def _answered(record: Record, answer: Response, rule: Rule) -> Object:
    made: Object = {"responseStatus": {"metadata": {}, "code": answer.status}}
    sent_as, answered_as = media_type(record.request.headers), media_type(answer.headers)
    if rule.level in ("Request", "RequestResponse"):
        sent = _object(record.request.body, sent_as, rule)
        made |= {} if sent is None else {"requestObject": sent}
    whole = answer.body if isinstance(answer.body, bytes) else b""
    if answer.status >= 400 and isinstance(status := _object(whole, answered_as, rule), dict):
        shown = {key: status[key] for key in ("status", "message", "reason") if key in status}
        made["responseStatus"] = {"metadata": {}, **shown, "code": answer.status}
    if rule.level == "RequestResponse" and (found := _object(whole, answered_as, rule)) is not None:
        made["responseObject"] = found
    return made


def _object(data: bytes, encoded_as: str, rule: Rule) -> Any:
    """What a body holds, whatever its encoding; None where it is no object."""
    if not data:
        return None
    try:
        if encoded_as == encoding.PROTOBUF:
            found: Any = decode(data)
        elif encoded_as in (encoding.YAML, APPLY_PATCH):
            found = from_yaml(data)
        else:
            found = orjson.loads(data)
    except (BadRequest, orjson.JSONDecodeError):
        return None
    if rule.omits_managed_fields and isinstance(found, dict):
        for one in (found, *(found.get("items") or ())):
            if isinstance(one, dict) and isinstance(one.get("metadata"), dict):
                one["metadata"].pop("managedFields", None)
    return found


def _user(user: Identity) -> Object:
    made: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        made["uid"] = user.uid
    if user.extra:
        made["extra"] = {key: list(values) for key, values in user.extra.items()}
    return made
