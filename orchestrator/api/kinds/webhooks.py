"""ValidatingWebhookConfiguration and MutatingWebhookConfiguration: defaults, validation, columns.

Source: admissionregistration.k8s.io/v1; upstream pkg/apis/admissionregistration, validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.expressions import BASE, match_conditions
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, integer
from orchestrator.api.kinds.values import label_selector
from orchestrator.api.kinds.webhook_clients import webhook_service, webhook_url
from orchestrator.api.meta import Object
from orchestrator.api.resources import MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
REVIEW_VERSIONS = ("v1", "v1beta1")


def _default_hook(hook: dict[str, Any]) -> None:
    hook.setdefault("failurePolicy", "Fail")
    hook.setdefault("matchPolicy", "Equivalent")
    hook.setdefault("namespaceSelector", {})
    hook.setdefault("objectSelector", {})
    hook.setdefault("timeoutSeconds", 10)
    service = (hook.get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)
    for rule in hook.get("rules") or ():
        rule.setdefault("scope", "*")


def default_validating(obj: Object) -> None:
    for hook in obj.get("webhooks") or ():
        _default_hook(hook)


def default_mutating(obj: Object) -> None:
    for hook in obj.get("webhooks") or ():
        _default_hook(hook)
        hook.setdefault("reinvocationPolicy", "Never")


# -- faults ------------------------------------------------------------------------------------------------------------


def configuration(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    names: list[str] = []
    for index, hook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        causes += _hook(hook, path, is_mutating=obj.get("kind") == MUTATINGWEBHOOKCONFIGURATIONS.kind)
        causes += _review_versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
        name = hook.get("name") or ""
        if name and name in names:
            causes.append(faults.duplicate(f"{path}.name", name))
        names.append(name)
    return causes


def configuration_update(new: Object, old: Object) -> list[Cause]:
    return configuration(new)


def _hook(hook: Json, path: str, *, is_mutating: bool) -> list[Cause]:
    name = hook.get("name") or ""
    causes: list[Cause] = []
    if not name:
        causes.append(faults.required(f"{path}.name"))
    elif found := formats.dns_subdomain(name):
        causes += faults.each(f"{path}.name", name, found)
    elif len(name.split(".")) < 3:
        causes.append(
            faults.invalid(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
        )
    for index, rule in enumerate(hook.get("rules") or ()):
        causes += rule_faults(rule, f"{path}.rules[{index}]")
    causes += _choice(hook.get("failurePolicy"), f"{path}.failurePolicy", ("Fail", "Ignore"))
    causes += _choice(hook.get("matchPolicy"), f"{path}.matchPolicy", ("Equivalent", "Exact"))
    effects = hook.get("sideEffects")
    if effects is None:
        causes.append(faults.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif effects not in ("None", "NoneOnDryRun"):
        causes.append(faults.not_supported(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun")))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        causes.append(
            faults.invalid(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds")
        )
    causes += label_selector(hook.get("namespaceSelector"), f"{path}.namespaceSelector")
    causes += label_selector(hook.get("objectSelector"), f"{path}.objectSelector")
    if is_mutating:
        causes += _choice(hook.get("reinvocationPolicy"), f"{path}.reinvocationPolicy", ("IfNeeded", "Never"))
    causes += _client(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    return causes + match_conditions(hook.get("matchConditions") or [], BASE, f"{path}.matchConditions")


def _choice(value: str | None, path: str, allowed: tuple[str, ...]) -> list[Cause]:
    return [] if value is None or value in allowed else [faults.not_supported(path, value, allowed)]


def _service(service: Json, path: str) -> list[Cause]:
    """kube-apiserver takes one for the other where the name or the namespace is missing."""
    return webhook_service({**service, "name": service.get("namespace"), "namespace": service.get("name")}, path)


def _client(config: Json, path: str) -> list[Cause]:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [faults.required(path, "exactly one of url or service is required")]
    return webhook_url(url, f"{path}.url") if url is not None else _service(service or {}, f"{path}.service")


def _review_versions(versions: list[str], path: str) -> list[Cause]:
    if not versions:
        return [faults.required(path, f"must specify one of {', '.join(REVIEW_VERSIONS)}")]
    causes: list[Cause] = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(faults.invalid(f"{path}[{index}]", version, "duplicate version"))
        else:
            causes += faults.each(f"{path}[{index}]", version, formats.dns1035_label(version))
    if not set(versions) & set(REVIEW_VERSIONS):
        causes.append(faults.invalid(path, versions, f"must include at least one of {', '.join(REVIEW_VERSIONS)}"))
    return causes


def rule_faults(rule: Json, path: str, *, allow_subresources: bool = True) -> list[Cause]:
    """Of a rule with operations, here and in admission policies."""
    causes: list[Cause] = []
    operations = rule.get("operations") or []
    if not operations:
        causes.append(faults.required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        causes.append(
            faults.invalid(f"{path}.operations", operations, "if '*' is present, must not specify other operations")
        )
    for index, operation in enumerate(operations):
        if operation not in OPERATIONS:
            causes.append(faults.not_supported(f"{path}.operations[{index}]", operation, OPERATIONS))
    for name, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(name) or []
        if not values:
            causes.append(faults.required(f"{path}.{name}"))
        if len(values) > 1 and "*" in values:
            causes.append(faults.invalid(f"{path}.{name}", values, f"if '*' is present, must not specify other {what}"))
        if name == "apiVersions":
            causes += [faults.required(f"{path}.{name}[{i}]") for i, value in enumerate(values) if not value]
    causes += _resources(rule.get("resources") or [], f"{path}.resources", allow_subresources)
    return causes + _choice(rule.get("scope"), f"{path}.scope", ("*", "Cluster", "Namespaced"))


def _resources(resources: list[str], path: str, allow_subresources: bool) -> list[Cause]:
    if not resources:
        return [faults.required(path)]
    causes: list[Cause] = []
    for index, text in enumerate(resources):
        if not text:
            causes.append(faults.required(f"{path}[{index}]"))
    if "*/*" in resources and len(resources) > 1:
        rule = "if '*/*' is present, must not specify other resources"
        causes.append(faults.invalid(path, resources, rule))
    if not allow_subresources:
        for index, text in enumerate(resources):
            if "/" in text:
                causes.append(faults.invalid(f"{path}[{index}]", text, "must not specify subresources"))
    wide = {text.removesuffix("/*") for text in resources if text.endswith("/*") and text != "*/*"}
    every = {text.removeprefix("*/") for text in resources if text.startswith("*/") and text != "*/*"}
    for index, text in enumerate(resources):
        name, _, sub = text.partition("/")
        if sub and sub != "*" and name in wide:
            detail = f"if '{name}/*' is present, must not specify {text}"
            causes.append(faults.invalid(f"{path}[{index}]", text, detail))
        if sub and name != "*" and sub in every:
            detail = f"if '*/{sub}' is present, must not specify {text}"
            causes.append(faults.invalid(f"{path}[{index}]", text, detail))
    if "*" in resources and any("/" not in text and text != "*" for text in resources):
        rule = "if '*' is present, must not specify other resources without subresources"
        causes.append(faults.invalid(path, resources, rule))
    return causes


def _cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


RULES = tuple(
    KindRules(
        resource=resource,
        has_generation=True,
        default=default,
        faults=configuration,
        update_faults=configuration_update,
        columns=(NAME, integer("Webhooks"), AGE),
        cells=_cells,
    )
    for resource, default in (
        (VALIDATINGWEBHOOKCONFIGURATIONS, default_validating),
        (MUTATINGWEBHOOKCONFIGURATIONS, default_mutating),
    )
)
