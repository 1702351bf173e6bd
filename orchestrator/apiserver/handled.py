"""What a handler of the tables is given and gives: the decoded body before it, the answer after it."""

from __future__ import annotations

from orchestrator.api import schema
from orchestrator.api.kinds import metadata as metadata_rules
from orchestrator.api.meta import Object
from orchestrator.api.patch import managed_fields
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.resources import Resource
from orchestrator.api.status import BadRequest
from orchestrator.api.wire import Response
from orchestrator.apiserver import body, writing
from orchestrator.apiserver.asked import Asked, UpgradeResponse, decoded, object_answer, prepare
from orchestrator.apiserver.handlers import Upgrade
from orchestrator.apiserver.negotiation import METADATA, OBJECT

HANDLED = (OBJECT, METADATA)  # the forms of what is not stored: it has no columns


def handler_body(asked: Asked) -> None:
    """Decodes the body that a handler works on into the attributes: the subresource's kind, or the resource's own."""
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    if info.verb not in ("create", "update") or not asked.request.body:
        return
    asked.accepted_as(HANDLED)  # refused before anything is done
    write = prepare(asked, "CreateOptions" if info.verb == "create" else "UpdateOptions")
    found = endpoint.resource.subresource(info.subresource)
    kind = found.kind if found and found.kind else endpoint.resource.kind
    api_version = found.group_version if found and found.group_version else endpoint.resource.api_version
    obj, text = body.read(asked.request, kind)
    group, _, version = (obj.get("apiVersion") or api_version).rpartition("/")
    resource = Resource(group, version, info.resource, kind, endpoint.resource.namespaced)
    obj["kind"], obj["apiVersion"] = obj.get("kind") or kind, obj.get("apiVersion") or api_version
    if obj["kind"] != kind or schema.type_of_kind(group, version, kind) is None:
        raise BadRequest(writing.not_this(obj.get("apiVersion") or api_version, obj["kind"], resource))
    if schema.type_of(resource) is not None:
        decoded(asked, resource, obj, text, write)
    if endpoint.resource.namespaced:
        metadata = obj.setdefault("metadata", {})
        if metadata.get("namespace", info.namespace) not in ("", info.namespace):
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = info.namespace
    if info.verb == "create" and (known := schema.type_of(resource)) is not None and "metadata" in known.fields:
        metadata_rules.wipe_system_fields(obj)
        writer = Writer(write.field_manager, resource.api_version, asked.core.now(), info.subresource)
        managed_fields.record_update(None, obj, known, writer)
    attributes.object = obj


def handled(asked: Asked, result: Object | Response | Upgrade) -> Response:
    if isinstance(result, Upgrade):
        return UpgradeResponse(upgrade=result)
    if isinstance(result, Response):
        return result
    code = int(result.get("code") or 0) if result.get("kind") == "Status" else 0
    code = code or (201 if asked.info.verb == "create" else 200)
    return object_answer(code, result, asked.accepted_as(HANDLED), asked.attributes.warnings)
