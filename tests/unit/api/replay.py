"""A very small API server over one dict: enough to replay recorded requests through the rules of `orchestrator.api`.

It does what the rules expect of a server (decode, default, prepare, validate, store), one after the other, and nothing
else: no admission, no authorization, no addresses.
"""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import yaml

from orchestrator.api import decoding, meta, schema, status
from orchestrator.api.kinds.registry import rules
from orchestrator.api.kinds.service import normalize_addresses
from orchestrator.api.patch import managed_fields, request
from orchestrator.api.patch.apply import apply
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.resources import Resource, ResourceTable
from tests.answers import UID

TABLE = ResourceTable()
NOW = "2026-01-01T00:00:00Z"

MANAGER = "probe"


class Replay:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.revisions = itertools.count(1)

    def send(self, step: dict[str, Any]) -> tuple[int, dict[str, Any], list[str]]:
        """(code, body, warnings) of one recorded request."""
        try:
            return self._send(step)
        except status.ApiError as error:
            return error.status_code, error.to_status(), []

    def _send(self, step: dict[str, Any]) -> tuple[int, dict[str, Any], list[str]]:
        url = urlsplit(step["path"])
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        resource, namespace, name, sub = locate(url.path)
        body = step.get("text", "").encode() or orjson.dumps(step.get("body"))
        dry = query.get("dryRun") == "All"
        check = query.get("fieldValidation", "Warn")
        writer = Writer(query.get("fieldManager", MANAGER), resource.api_version, NOW, sub)
        key = (resource.plural, namespace, name)
        if step["method"] == "GET":
            return 200, self.objects[key], []
        if step["method"] == "POST":
            obj = orjson.loads(body)
            warnings = decoding.check(obj, resource, check, body)
            created = self._create(resource, namespace, obj, writer, dry)
            warnings += [resource.deprecation] if resource.deprecation else []
            return 201, created, warnings + rules(resource).warnings(created)
        live = self.objects.get(key)
        if step["method"] == "PATCH" and step.get("type") == request.APPLY_PATCH:
            new, warnings = self._apply(live, body, resource, writer, query.get("force") == "true", namespace, name)
            if live is None:
                return 201, self._create(resource, namespace, new, writer, dry, applied=True), warnings
            return 200, self._update(resource, new, live, writer, dry, applied=True), warnings
        if live is None:
            raise status.not_found(resource.group, resource.plural, name)
        if step["method"] == "PATCH":
            new, warnings = request.patched(live, body, step["type"], resource, check)
        else:
            new = orjson.loads(body)
            warnings = decoding.check(new, resource, check, body)
        return 200, self._update(resource, new, live, writer, dry), warnings

    def _apply(self, live, body, resource, writer, force, namespace, name):  # type: ignore[no-untyped-def]
        applied = yaml.safe_load(body)
        applied.setdefault("metadata", {})
        if applied["metadata"].setdefault("name", name) != name:
            raise status.BadRequest(
                f"the name of the object ({applied['metadata']['name']}) does not match the name on the URL ({name})"
            )
        kind = schema.type_of(resource)
        assert kind is not None
        ignored = rules(resource).reset_fields(writer.subresource)
        new = apply(live, applied, resource, kind, writer, force=force, ignored=ignored)
        if resource.namespaced:
            new["metadata"]["namespace"] = namespace
        return new, []

    def _create(self, resource, namespace, obj, writer, dry, applied=False):  # type: ignore[no-untyped-def]
        kind, rule = schema.type_of(resource), rules(resource)
        obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
        if resource.namespaced:
            obj.setdefault("metadata", {}).setdefault("namespace", namespace)
        rule.default(obj)
        if not applied:
            managed_fields.record_update(None, obj, kind, writer, rule.reset_fields())
        rule.prepare_create(obj, uid=UID, now=NOW)
        if resource.group_resource == "services":  # all that there is of their allocation here
            normalize_addresses(obj)
        if causes := rule.validate_create(obj):
            raise status.invalid(resource.group, resource.kind, meta.name(obj), causes)
        return self._keep(resource, obj, dry)

    def _update(self, resource, new, live, writer, dry, applied=False):  # type: ignore[no-untyped-def]
        kind, rule = schema.type_of(resource), rules(resource)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        new["metadata"].setdefault("namespace", meta.namespace(live)) if resource.namespaced else None
        rule.default(new)
        if not applied:
            managed_fields.record_update(live, new, kind, writer, rule.reset_fields(writer.subresource))
        rule.prepare_update(new, live, writer.subresource)
        if causes := rule.validate_update(new, live, writer.subresource):
            raise status.invalid(resource.group, resource.kind, meta.name(live), causes)
        managed_fields.keep_times_if_unchanged(new, live)
        return self._keep(resource, new, dry)

    def _keep(self, resource: Resource, obj: dict[str, Any], dry: bool) -> dict[str, Any]:
        obj["metadata"]["resourceVersion"] = str(next(self.revisions))
        if not dry:
            stored = orjson.loads(orjson.dumps(obj))
            self.objects[resource.plural, meta.namespace(obj), meta.name(obj)] = stored
        return obj


def locate(path: str) -> tuple[Resource, str, str, str]:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = TABLE.find(group, version, rest[0])
    assert resource is not None, path
    return resource, namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""
