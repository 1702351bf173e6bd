"""What expressions see of a request: the object, the old one, who asks for what, the namespace, and who may do what.

`authorizer` is a chain of questions to the server's own authorizer, kept as a marked map whose end is `check(verb)`.
Source: Reference, "Validating Admission Policy", CEL variables; Kubernetes CEL authorizer library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.cel import library
from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES
from orchestrator.api.wire import Identity
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes, Authorizer
from orchestrator.apiserver.webhooks.matching import Asked

_SHOWN = ("name", "labels", "annotations", "finalizers", "uid", "creationTimestamp", "deletionTimestamp",
          "resourceVersion", "generation", "generateName", "deletionGracePeriodSeconds")  # fmt: skip


def request_of(attributes: Attributes, asked: Asked) -> Object:
    """The `request` variable: an AdmissionRequest without its objects."""
    row = attributes.row
    assert row is not None
    kind = {"group": row.group, "version": row.version, "kind": row.kind}
    user = attributes.user
    info: Object = {"username": user.name, "groups": list(user.groups), "uid": user.uid}
    info["extra"] = {key: list(values) for key, values in user.extra.items()}
    own = {"group": attributes.group, "version": attributes.version, "resource": attributes.resource}
    return {
        "kind": {**kind, "version": asked.version, "group": asked.group},
        "resource": {"group": asked.group, "version": asked.version, "resource": asked.resource},
        "subResource": attributes.subresource,
        "requestKind": kind,
        "requestResource": own,
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.namespace,
        "operation": attributes.operation,
        "userInfo": info,
        "dryRun": attributes.dry_run,
        "options": dict(attributes.options) or None,
    }


def namespace_of(attributes: Attributes, lookup: Lookup) -> Object | None:
    """The `namespaceObject` variable: None for what is in no namespace."""
    if not attributes.namespace or attributes.group_resource == "namespaces":
        return None
    found = lookup.get(NAMESPACES, "", attributes.namespace)
    if found is None:
        return None
    metadata = {name: value for name, value in meta.metadata(found).items() if name in _SHOWN}
    return {"metadata": metadata, "spec": found.get("spec") or {}, "status": found.get("status") or {}}


def variables(
    attributes: Attributes, asked: Asked, shown: Callable[[Object | None], Object | None], lookup: Lookup
) -> Object:
    """`shown` makes an object what the policy's rule names it as."""
    return {
        "object": shown(attributes.object),
        "oldObject": shown(attributes.old_object),
        "request": request_of(attributes, asked),
        "namespaceObject": namespace_of(attributes, lookup),
        "authorizer": {library.AUTHORIZER: {}},
    }


def questions(authorizer: Authorizer, attributes: Attributes) -> library.Check:
    """The answer to `check`, for library.asking."""

    def check(question: Mapping[str, Any], verb: str) -> tuple[bool, str]:
        user = attributes.user
        if account := question.get("serviceAccount"):
            namespace, name = account
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            user = Identity(f"system:serviceaccount:{namespace}:{name}", groups)
        if "path" in question:
            asked = Attributes(user=user, verb=verb, path=question["path"], is_resource=False)
        else:
            asked = Attributes(
                user=user, verb=verb, group=question.get("group", ""), resource=question.get("resource", ""),
                subresource=question.get("subresource", ""), namespace=question.get("namespace", ""),
                name=question.get("name", ""), version="*",
            )  # fmt: skip
        decision = authorizer.authorize(asked)
        return decision.allowed, decision.reason

    return check
