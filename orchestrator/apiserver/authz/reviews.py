"""The review kinds of authorization.k8s.io: "may they?" asked as an object that is created and never stored.

SubjectAccessReview asks for anybody, LocalSubjectAccessReview within one namespace, SelfSubjectAccessReview for the
asker, and SelfSubjectRulesReview lists what the asker may do in a namespace (`kubectl auth can-i --list`).
Errors: Invalid for a spec that asks nothing or two things, BadRequest for a missing or different namespace.
Source: authorization/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import selectors
from orchestrator.api.kinds import faults, values
from orchestrator.api.label_grammar import SelectorError
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
        _check(review, [*_faults_of_subject(review), *_faults_of_metadata(review)])
        return self._answered(review, subject_of(review))

    async def local(self, call: Call) -> Object:
        review = call.attributes.object or {}
        spec = review.get("spec") or {}
        found = [*_faults_of_subject(review), *_faults_of_metadata(review, but="namespace")]
        asked = spec.get("resourceAttributes")
        if asked is not None and asked.get("namespace", "") != call.attributes.namespace:
            path = "spec.resourceAttributes.namespace"
            found.append(faults.invalid(path, asked.get("namespace", ""), "must match metadata.namespace"))
        if (plain := spec.get("nonResourceAttributes")) is not None:
            path = "spec.nonResourceAttributes"
            found.append(faults.invalid(path, plain, "disallowed on this kind of request"))
        _check(review, found)
        return self._answered(review, subject_of(review))

    async def self_access(self, call: Call) -> Object:
        review = call.attributes.object or {}
        _check(review, [*_faults_of_question(review.get("spec") or {}), *_faults_of_metadata(review)])
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
        if ignored := _ignored(review["spec"].get("resourceAttributes") or {}):
            status["evaluationError"] = "; ".join(ignored)
        return {**review, "status": status}

    def _rules(self, user: Identity, namespace: str) -> dict[str, Any]:
        grants = self._rbac.grants(user)
        rules = [grant.rule for grant in grants.within(namespace)]
        if MASTERS in user.groups:
            rules = list(ANYTHING)
        missing = grants.faults_within(namespace)
        if node_name(user) is not None:
            missing = [*missing, "node authorizer does not support user rule resolution"]
        status: dict[str, Any] = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [
                {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.urls)} for rule in rules if rule.urls
            ],
            "incomplete": bool(missing),
        }
        return status | ({"evaluationError": ", ".join(missing)} if missing else {})


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
    """Whom a SubjectAccessReview asks about."""
    spec = review.get("spec") or {}
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return Identity(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def _faults_of_subject(review: Object) -> list[Cause]:
    spec = review.get("spec") or {}
    found = _faults_of_question(spec)
    if not spec.get("user") and not spec.get("groups"):
        detail = "at least one of user or group must be specified"
        found.append(faults.invalid("spec.user", spec.get("user") or "", detail))
    return found


def _faults_of_question(spec: Mapping[str, Any]) -> list[Cause]:
    asked, plain = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    found = []
    if asked is not None and plain is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        found.append(faults.invalid("spec.nonResourceAttributes", plain, detail))
    if asked is None and plain is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(faults.invalid("spec.resourceAttributes", None, detail))
    for name in ("fieldSelector", "labelSelector"):
        if (selector := (asked or {}).get(name)) is not None:
            found += _faults_of_selector(selector, f"spec.resourceAttributes.{name}")
    return found


def _ignored(asked: Mapping[str, Any]) -> list[str]:
    """Selectors that cannot be read, in whole or in part: what is decided is then decided without them."""
    told = []
    for name, is_read in (("fieldSelector", _is_field_read), ("labelSelector", _is_label_read)):
        selector = asked.get(name) or {}
        read = [is_read(requirement) for requirement in selector.get("requirements") or ()]
        if raw := selector.get("rawSelector"):
            read = [_is_text_read(raw, name)]
        if not all(read):
            how = "partially ignored" if any(read) else "ignored"
            told.append(f"spec.resourceAttributes.{name} {how} due to parse error")
    return told


def _is_text_read(raw: str, name: str) -> bool:
    try:
        selectors.parse_fields(raw) if name == "fieldSelector" else selectors.parse_labels(raw)
    except SelectorError:
        return False
    return True


def _is_field_read(requirement: Mapping[str, Any]) -> bool:
    """Field selectors know equality alone."""
    return requirement.get("operator") in ("In", "NotIn") and len(requirement.get("values") or ()) == 1


def _is_label_read(requirement: Mapping[str, Any]) -> bool:
    return values.is_readable({"matchExpressions": [dict(requirement)]})


def _faults_of_selector(selector: Mapping[str, Any], path: str) -> list[Cause]:
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or []
    found = []
    if raw and requirements:
        detail = "may not specified at the same time as requirements"
        found.append(faults.invalid(f"{path}.rawSelector", raw, detail))
    if not raw and not requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        found.append(faults.required(f"{path}.requirements", detail))
    for index, requirement in enumerate(requirements):
        found += _faults_of_requirement(requirement, f"{path}.requirements[{index}]")
    return found


def _faults_of_requirement(requirement: Mapping[str, Any], path: str) -> list[Cause]:
    """Operators that are not known are let pass: a newer server may ask on behalf of its clients."""
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    found = []
    if not requirement.get("key"):
        found.append(faults.required(f"{path}.key", "must be specified"))
    if operator in ("In", "NotIn") and not values:
        found.append(faults.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    if operator in ("Exists", "DoesNotExist") and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        found.append(faults.forbidden(f"{path}.values", detail))
    return found


def _faults_of_metadata(review: Object, but: str = "") -> list[Cause]:
    metadata = {name: value for name, value in (review.get("metadata") or {}).items() if name != "managedFields"}
    if not any(value for name, value in metadata.items() if name != but):
        return []
    return [faults.invalid("metadata", metadata, f"must be empty except for {but}" if but else "must be empty")]


def _check(review: Object, found: list[Cause]) -> None:
    """A review has no name, and upstream has lost its kind by the time that it complains."""
    if found:
        raise invalid(GROUP, "", "", found)


def _resource_rule(rule: Rule) -> dict[str, Any]:
    shown = {"verbs": sorted(rule.verbs), "apiGroups": sorted(rule.groups), "resources": sorted(rule.resources)}
    return shown | ({"resourceNames": sorted(rule.names)} if rule.names else {})
