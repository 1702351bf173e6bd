"""The review kinds of authorization.k8s.io: "may they?" asked as an object that is created and never stored.

SubjectAccessReview asks for anybody, LocalSubjectAccessReview within one namespace, SelfSubjectAccessReview for the
asker, and SelfSubjectRulesReview lists what the asker may do in a namespace (`kubectl auth can-i --list`).
Errors: Invalid for a spec that asks nothing or two things, BadRequest for a missing or different namespace.
Source: authorization/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.status import BadRequest, Cause, invalid
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz.chain import MASTERS
from orchestrator.apiserver.authz.node import node_name
from orchestrator.apiserver.authz.rbac import Rbac
from orchestrator.apiserver.authz.rules import ANYTHING, Rule
from orchestrator.apiserver.handlers import Call, Handler
from orchestrator.apiserver.request import Attributes, Authorizer

GROUP = "authorization.k8s.io"


class AccessReviews:
    def __init__(self, authorizer: Authorizer, rbac: Rbac) -> None:
        self._authorizer = authorizer
        self._rbac = rbac

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {
            (f"subjectaccessreviews.{GROUP}", ""): self.subject,
            (f"localsubjectaccessreviews.{GROUP}", ""): self.local,
            (f"selfsubjectaccessreviews.{GROUP}", ""): self.self_access,
            (f"selfsubjectrulesreviews.{GROUP}", ""): self.self_rules,
        }

    async def subject(self, call: Call) -> Object:
        review = call.attributes.object or {}
        return self._answered(review, subject_of(review))

    async def local(self, call: Call) -> Object:
        review = call.attributes.object or {}
        user = subject_of(review)
        asked = (review["spec"].get("resourceAttributes") or {}).get("namespace", "")
        if asked != call.attributes.namespace:
            raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {call.attributes.namespace}")
        return self._answered(review, user)

    async def self_access(self, call: Call) -> Object:
        review = call.attributes.object or {}
        _raise(review, _faults_of_question(review.get("spec") or {}))
        return self._answered(review, call.attributes.user)

    async def self_rules(self, call: Call) -> Object:
        review = call.attributes.object or {}
        namespace = (review.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise BadRequest("no namespace on request")
        return {**review, "status": self._rules(call.attributes.user, namespace)}

    def _answered(self, review: Object, user: Identity) -> Object:
        decision = self._authorizer.authorize(question(review["spec"], user))
        status: dict[str, Any] = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return {**review, "status": status}

    def _rules(self, user: Identity, namespace: str) -> dict[str, Any]:
        grants = self._rbac.grants(user)
        rules = [grant.rule for grant in grants.within(namespace)]
        if MASTERS in user.groups:
            rules = list(ANYTHING)
        faults = grants.faults_within(namespace)
        if node_name(user) is not None:
            faults = [*faults, "node authorizer does not support user rule resolution"]
        status: dict[str, Any] = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [
                {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.urls)} for rule in rules if rule.urls
            ],
            "incomplete": bool(faults),
        }
        return status | ({"evaluationError": ", ".join(faults)} if faults else {})


def question(spec: Mapping[str, Any], user: Identity) -> Attributes:
    """The Attributes that a review's spec asks about."""
    if plain := spec.get("nonResourceAttributes"):
        return Attributes(user=user, verb=plain.get("verb", ""), path=plain.get("path", ""), is_resource=False)
    asked = spec.get("resourceAttributes") or {}
    requirements = (asked.get("fieldSelector") or {}).get("requirements") or ()
    selector = (asked.get("fieldSelector") or {}).get("rawSelector") or ",".join(
        f"{one['key']}={one['values'][0]}"
        for one in requirements
        if one.get("operator") == "In" and len(one.get("values") or ()) == 1
    )
    return Attributes(
        user=user,
        verb=asked.get("verb", ""),
        group=asked.get("group", ""),
        version=asked.get("version", ""),
        resource=asked.get("resource", ""),
        subresource=asked.get("subresource", ""),
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
        field_selector=selector,
    )


def subject_of(review: Object) -> Identity:
    """Whom a SubjectAccessReview asks about; Invalid where it names nobody, or asks nothing."""
    spec = review.get("spec") or {}
    faults = _faults_of_question(spec)
    if not spec.get("user") and not spec.get("groups"):
        why = "Required value: at least one of user or group must be specified"
        faults.append(Cause("spec.user", "FieldValueRequired", why))
    _raise(review, faults)
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return Identity(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def _faults_of_question(spec: Mapping[str, Any]) -> list[Cause]:
    kinds = [field for field in ("resourceAttributes", "nonResourceAttributes") if spec.get(field) is not None]
    if len(kinds) == 2:
        why = "Invalid value: cannot be specified in combination with resourceAttributes"
        return [Cause("spec.nonResourceAttributes", "FieldValueInvalid", why)]
    if not kinds:
        why = "Required value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [Cause("spec.resourceAttributes", "FieldValueRequired", why)]
    return []


def _raise(review: Object, faults: list[Cause]) -> None:
    if faults:
        raise invalid(GROUP, review.get("kind", ""), meta.name(review), faults)


def _resource_rule(rule: Rule) -> dict[str, Any]:
    shown = {"verbs": sorted(rule.verbs), "apiGroups": sorted(rule.groups), "resources": sorted(rule.resources)}
    return shown | ({"resourceNames": sorted(rule.names)} if rule.names else {})
