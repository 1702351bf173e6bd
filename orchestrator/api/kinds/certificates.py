"""CertificateSigningRequest: a name asked for, the approval of who may say so, and the certificate of who signs.

    the object        its metadata changes; spec and status stay as they are
    approval          the conditions change, Approved and Denied among them
    status            the certificate and the other conditions change: Approved and Denied stay as they are

A condition that was given once is never taken back, a certificate never changed.
Source: certificates.k8s.io/v1 API reference; Kubernetes docs, "Certificate Signing Requests".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, duration
from orchestrator.api.meta import Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

DURATION_MIN_S = 600
USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
DECISIONS = ("Approved", "Denied")
ONLY_TRUE = (*DECISIONS, "Failed")
CONDITIONS = "status.conditions"
CERTIFICATE = "status.certificate"
_BLOCK = re.compile(
    r"^-----BEGIN (?P<type>[^\n]*?)-----[ \t\r]*\n(?P<body>.*?)^-----END (?P=type)-----[ \t\r]*$", re.M | re.S
)


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def _status(obj: Json) -> dict[str, Any]:
    return obj.get("status") or {}


def conditions(obj: Json, kind: str = "") -> list[Json]:
    """All conditions, or those of one type."""
    return [one for one in _status(obj).get("conditions") or () if not kind or one.get("type") == kind]


# -- what a write to a part of it makes of it --------------------------------------------------------------------------


def approval(new: Object, old: Object, now: str) -> Object:
    """Of the status the conditions alone are what the approver says."""
    return {**new, "spec": _spec(old), "status": _with_conditions(_status(old), _dated(conditions(new), old, now))}


def _with_conditions(status: Json, found: list[Json]) -> Object:
    kept = {name: value for name, value in status.items() if name != "conditions"}
    return {**kept, "conditions": found} if found else kept


def signing(new: Object, old: Object, now: str) -> Object:
    """The signer cannot decide: as many Approved and Denied conditions as there were are the ones that there were."""
    found = conditions(new)
    for kind in DECISIONS:
        places = [index for index, one in enumerate(found) if one.get("type") == kind]
        before = conditions(old, kind)
        if len(places) == len(before):
            for index, one in zip(places, before, strict=True):
                found[index] = one
    return {**new, "spec": _spec(old), "status": _with_conditions(_status(new), _dated(found, old, now))}


def _dated(found: list[Json], old: Object, now: str) -> list[Json]:
    """Conditions with their times; one whose status has not changed keeps the time of its last transition."""
    dated: list[Json] = []
    for one in found:
        same = [
            before["lastTransitionTime"]
            for before in conditions(old, one.get("type") or "")
            if before.get("status") == one.get("status") and before.get("lastTransitionTime")
        ]
        times = {"lastUpdateTime": now, "lastTransitionTime": same[0] if same else now}
        dated.append({**one, **{name: time for name, time in times.items() if not one.get(name)}})
    return dated


def keep_all(new: Object, old: Object) -> None:
    new["spec"] = _spec(old)


# -- what is wrong with it ---------------------------------------------------------------------------------------------


def request(obj: Object) -> list[Cause]:
    return _request_faults(obj, None)


def _request_faults(obj: Object, old: Object | None) -> list[Cause]:
    """Faults that the stored object has already are let through."""
    spec = _spec(obj)
    causes: list[Cause] = []
    if why := _why_no_request(spec.get("request") or ""):
        causes.append(faults.invalid("spec.request", spec.get("request"), why))
    causes += _usage_faults(spec.get("usages") or [], _spec(old or {}).get("usages") or [])
    causes += _signer(spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < DURATION_MIN_S:
        detail = f"may not specify a duration less than {DURATION_MIN_S} seconds (10 minutes)"
        causes.append(faults.invalid("spec.expirationSeconds", seconds, detail))
    causes += _condition_faults(obj, old or {})
    is_checked = old is None or _is_certificate_checked(obj, old)
    if is_checked and (why := _why_no_certificate(_status(obj).get("certificate") or "")):
        causes.append(faults.invalid(CERTIFICATE, "<certificate data>", why))
    return causes


def _why_no_request(encoded: str) -> str:
    found = next(_blocks(encoded), None)
    if found is None or found["type"] != "CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        is_signed = x509.load_pem_x509_csr(base64.b64decode(encoded)).is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        return str(error)
    return "" if is_signed else "x509: signature verification failure"


def _why_no_certificate(encoded: str) -> str:
    if not encoded:
        return ""
    blocks = list(_blocks(encoded))
    for block in blocks:
        if block["type"] != "CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {faults.shown(block['type'])}"
        if ":" in block["body"]:
            return "no PEM block headers are permitted"
        try:
            x509.load_pem_x509_certificate(block[0].encode())
        except ValueError as error:
            return str(error)
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def _blocks(encoded: str) -> Any:
    """The PEM blocks in base64 text, as matches."""
    try:
        text = base64.b64decode(encoded).decode()
    except ValueError:
        return iter(())
    return _BLOCK.finditer(text)


def _is_certificate_checked(new: Object, old: Object) -> bool:
    before = _status(old).get("certificate") or ""
    return (_status(new).get("certificate") or "") != before and not _why_no_certificate(before)


def _usage_faults(usages: list[str], before: list[str]) -> list[Cause]:
    causes = [] if usages else [faults.required("spec.usages")]
    if all(usage in USAGES for usage in before):
        for index, usage in enumerate(usages):
            if usage not in USAGES:
                causes.append(faults.not_supported(f"spec.usages[{index}]", usage, USAGES))
    if len(set(before)) == len(before):
        for index, usage in enumerate(usages):
            if usage in usages[:index]:
                causes.append(faults.duplicate(f"spec.usages[{index}]", usage))
    return causes


DOMAIN_MAX = 253
SIGNER_MAX = DOMAIN_MAX + 1 + (63 + 1 + 253)  # a domain, and a path that names any resource


def _signer(name: str) -> list[Cause]:
    path = "spec.signerName"
    if not name:
        return [faults.required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        rule = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [faults.invalid(path, name, rule)]
    causes = [faults.too_long(path, DOMAIN_MAX)] if len(domain) > DOMAIN_MAX else []
    causes += _first_bad_label(path, domain, formats.dns_label)
    if "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        causes.append(faults.invalid(path, domain, detail))
    causes += _first_bad_label(path, rest, formats.dns_subdomain)
    if len(name) > SIGNER_MAX:
        causes.append(faults.too_long(path, SIGNER_MAX))
    return causes


def _first_bad_label(path: str, text: str, rule: Callable[[str], list[str]]) -> list[Cause]:
    """The complaints about the first label that is none; more would say the same again."""
    found = ((label, rule(label)) for label in text.split("."))
    label, complaints = next((pair for pair in found if pair[1]), ("", []))
    return faults.each(path, text, (f"validating label {faults.shown(label)}: {complaint}" for complaint in complaints))


def _condition_faults(obj: Object, old: Object) -> list[Cause]:
    causes: list[Cause] = []
    before = [one.get("type") or "" for one in conditions(old)]
    both_allowed = all(kind in before for kind in DECISIONS)
    seen: list[str] = []
    for index, one in enumerate(conditions(obj)):
        kind, state, path = one.get("type") or "", one.get("status") or "", f"{CONDITIONS}[{index}]"
        allowed = ("True",) if kind in ONLY_TRUE else ("False", "True", "Unknown")
        if not kind and "" not in before:
            causes.append(faults.required(f"{path}.type"))
        if not state:
            causes.append(faults.required(f"{path}.status"))
        elif state not in allowed:
            causes.append(faults.not_supported(f"{path}.status", state, allowed))
        if kind in DECISIONS and not both_allowed and any(one in seen for one in DECISIONS if one != kind):
            causes.append(faults.invalid(CONDITIONS, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen and len(set(before)) == len(before):
            causes.append(faults.duplicate(f"{path}.type", kind))
        seen.append(kind)
    return causes


def _update_faults(new: Object, old: Object, *, may_decide: bool = False, may_sign: bool = False) -> list[Cause]:
    causes = _request_faults(new, old)
    for kind in ONLY_TRUE:
        if len(conditions(new, kind)) < len(conditions(old, kind)):
            detail = f'updates may not remove a condition of type "{kind}"'
            causes.append(faults.forbidden(CONDITIONS, detail))
    for kind in () if may_decide else DECISIONS:
        if len(conditions(new, kind)) > len(conditions(old, kind)):
            causes.append(faults.forbidden(CONDITIONS, f'updates may not add a condition of type "{kind}"'))
    before, after = _status(old).get("certificate"), _status(new).get("certificate")
    if (before or "") != (after or ""):
        if not may_sign:
            causes.append(faults.forbidden(CERTIFICATE, "updates may not set certificate content"))
        elif before:
            causes.append(faults.forbidden(CERTIFICATE, "updates may not modify existing certificate content"))
    return causes


def _approval_faults(new: Object, old: Object) -> list[Cause]:
    return _update_faults(new, old, may_decide=True)


def _status_faults(new: Object, old: Object) -> list[Cause]:
    return _update_faults(new, old, may_sign=True)


# -- how it is shown ---------------------------------------------------------------------------------------------------


def _cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), _status(obj)
    found = {condition.get("type") for condition in conditions(obj)}
    state = "Denied" if "Denied" in found else "Approved" if "Approved" in found else "Pending"
    state += ",Failed" if "Failed" in found else ""
    state += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    asked = duration(seconds) if seconds is not None else "<none>"
    return [meta.name(obj), age(obj, now), spec.get("signerName") or "<none>", spec.get("username") or "", asked, state]


RULES = (
    KindRules(
        resource=CERTIFICATESIGNINGREQUESTS,
        name_format=formats.path_segment,
        on_update=keep_all,
        faults=request,
        update_faults=_update_faults,
        status_faults=_status_faults,
        subresource_faults={"approval": _approval_faults},
        resets={
            "": (("spec",), ("status",)),
            "approval": (("spec",), ("status", "certificate")),
            "status": (("spec",), ("status", "conditions")),
        },
        columns=(NAME, AGE, *table.texts("SignerName", "Requestor", "RequestedDuration", "Condition")),
        cells=_cells,
    ),
)
