"""Which rules a resource has: one lookup over all kind families, with generic rules for a kind of no family."""

from __future__ import annotations

from functools import lru_cache

from orchestrator.api.kinds import (
    apiservices,
    autoscaling,
    batch,
    certificates,
    classes,
    cluster,
    config,
    csi,
    definitions,
    devices,
    endpoints,
    events,
    flowcontrol,
    limits,
    networking,
    pod,
    policies,
    rbac,
    service,
    storage,
    webhooks,
    workloads,
)
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.resources import Resource

FAMILIES = (
    apiservices.RULES,
    autoscaling.RULES,
    batch.RULES,
    certificates.RULES,
    classes.RULES,
    cluster.RULES,
    config.RULES,
    csi.RULES,
    definitions.RULES,
    devices.RULES,
    endpoints.RULES,
    events.RULES,
    flowcontrol.RULES,
    limits.RULES,
    networking.RULES,
    pod.RULES,
    policies.RULES,
    rbac.RULES,
    service.RULES,
    storage.RULES,
    webhooks.RULES,
    workloads.RULES,
)

_BY_KIND = {
    (rules.resource.group, rules.resource.version, rules.resource.plural): rules
    for family in FAMILIES
    for rules in family
}


def rules(resource: Resource) -> KindRules:
    """The rules of a built-in or custom resource."""
    return resource.custom.rules(resource) if resource.custom is not None else _built_in(resource)


def rules_of(served: Resource, stored: Resource) -> KindRules:
    """The rules of a resource that is served in one version and kept in another: they see what is kept. A version may
    have rules of its own."""
    has_own = (served.group, served.version, served.plural) in _BY_KIND
    return rules(served if has_own else stored)


@lru_cache(maxsize=512)
def _built_in(resource: Resource) -> KindRules:
    found = _BY_KIND.get((resource.group, resource.version, resource.plural))
    return found or KindRules(resource=resource)
