"""PriorityClass and RuntimeClass: names that a pod spec refers to. CertificateSigningRequest: a name asked for.

Source: scheduling.k8s.io/v1, node.k8s.io/v1 and certificates.k8s.io/v1 API reference.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, resource_faults, scheduling_faults, table
from orchestrator.api.kinds.metadata import check_labels
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, duration, integer
from orchestrator.api.kinds.values import one_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS, PRIORITYCLASSES, RUNTIMECLASSES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

USER_PRIORITY_MAX = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def default_priority(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def priority(obj: Object) -> list[Cause]:
    name, value = meta.name(obj), obj.get("value", 0)
    causes: list[Cause] = []
    if name.startswith(SYSTEM_PREFIX):
        if SYSTEM_CLASSES.get(name) != value:
            why = f"{name} is not a known system priority class"
            if name in SYSTEM_CLASSES:
                why = f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
            detail = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            )
            causes.append(faults.forbidden("metadata.name", detail))
    elif value > USER_PRIORITY_MAX:
        detail = f"maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"
        causes.append(faults.forbidden("value", detail))
    supported = ("PreemptLowerPriority", "Never")
    return causes + one_of(obj.get("preemptionPolicy"), "preemptionPolicy", supported, required=False)


def priority_update(new: Object, old: Object) -> list[Cause]:
    same = new.get("value") == old.get("value")
    causes = [] if same else [faults.forbidden("value", "may not be changed in an update.")]
    return causes + faults.immutable("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def runtime(obj: Object) -> list[Cause]:
    handler = obj.get("handler") or ""
    causes = (
        [faults.required("handler")] if not handler else faults.each("handler", handler, formats.dns_label(handler))
    )
    overhead = obj.get("overhead")
    if overhead is not None:
        causes += resource_faults.requirements({"limits": overhead.get("podFixed")}, "overhead")
    scheduling = obj.get("scheduling") or {}
    causes += check_labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
    return causes + scheduling_faults.tolerations(scheduling.get("tolerations") or (), "scheduling.tolerations")


def runtime_update(new: Object, old: Object) -> list[Cause]:
    return faults.immutable("handler", new.get("handler"), old.get("handler"))


def signing_request(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes: list[Cause] = []
    try:
        pem = base64.b64decode(spec.get("request") or "").decode()
    except ValueError:
        pem = ""
    if "-----BEGIN CERTIFICATE REQUEST-----" not in pem and "-----BEGIN NEW CERTIFICATE REQUEST-----" not in pem:
        detail = "PEM block type must be CERTIFICATE REQUEST"
        causes.append(faults.invalid("spec.request", spec.get("request"), detail))
    usages = spec.get("usages") or []
    if not usages:
        causes.append(faults.required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in USAGES:
            causes.append(faults.not_supported(f"spec.usages[{index}]", usage, USAGES))
        if usage in usages[:index]:
            causes.append(faults.duplicate(f"spec.usages[{index}]", usage))
    causes += _signer(spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        causes.append(faults.invalid("spec.expirationSeconds", seconds, detail))
    return causes


def _signer(name: str) -> list[Cause]:
    path = "spec.signerName"
    if not name:
        return [faults.required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest or not rest:
        rule = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [faults.invalid(path, name, rule)]
    causes = faults.each(path, domain, formats.dns_subdomain(domain))
    if "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        causes.append(faults.invalid(path, domain, detail))
    return causes


def signing_update(new: Object, old: Object) -> list[Cause]:
    return faults.immutable("spec", _spec(new), _spec(old))


def _priority_cells(obj: Object, now: float) -> Cells:
    policy = obj.get("preemptionPolicy") or ""
    return [meta.name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now), policy]


def _signing_cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    found = {condition.get("type") for condition in status.get("conditions") or ()}
    state = "Denied" if "Denied" in found else "Approved" if "Approved" in found else "Pending"
    state += ",Failed" if "Failed" in found else ""
    state += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    asked = duration(seconds) if seconds is not None else "<none>"
    return [meta.name(obj), age(obj, now), spec.get("signerName") or "<none>", spec.get("username") or "", asked, state]


RULES = (
    KindRules(
        resource=PRIORITYCLASSES,
        has_generation=True,
        default=default_priority,
        faults=priority,
        update_faults=priority_update,
        columns=(NAME, integer("Value"), Column("Global-Default", "boolean"), AGE, Column("PreemptionPolicy")),
        cells=_priority_cells,
    ),
    KindRules(
        resource=RUNTIMECLASSES,
        faults=runtime,
        update_faults=runtime_update,
        columns=(NAME, *table.texts("Handler"), AGE),
        cells=lambda obj, now: [meta.name(obj), obj.get("handler") or "", age(obj, now)],
    ),
    KindRules(
        resource=CERTIFICATESIGNINGREQUESTS,
        name_format=formats.path_segment,
        faults=signing_request,
        update_faults=signing_update,
        columns=(NAME, AGE, *table.texts("SignerName", "Requestor", "RequestedDuration", "Condition")),
        cells=_signing_cells,
    ),
)
