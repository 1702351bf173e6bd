"""Pod spec defaults: what a Pod, and every pod template inside another kind, gets for what it leaves out.

`default_spec` is shared by Pods and templates; `default_pod` adds what only a Pod itself has (requests from limits,
host ports of the host network, service links). Fields are filled in place. Source: core/v1 API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.meta import Object

Json = dict[str, Any]

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def containers(spec: Mapping[str, Any]) -> Iterator[Json]:
    """Every container of a pod spec: init, ordinary, ephemeral."""
    for kind in CONTAINER_LISTS:
        yield from spec.get(kind) or ()


def default_pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    default_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    if spec["terminationGracePeriodSeconds"] < 0:  # of a template it is kept, and only warned of
        spec["terminationGracePeriodSeconds"] = 1
    for container in containers(spec):
        _requests_from_limits(container.get("resources") or {})
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort", 0)
    _requests_from_limits(spec.get("resources") or {})
    _align_addresses(pod.get("status") or {})


def _align_addresses(status: Json) -> None:
    """The one address is the first of all; where they differ the one is believed, for the sake of old kubelets."""
    one, all_ = status.get("podIP") or "", status.get("podIPs") or []
    if one and (not all_ or all_[0].get("ip") != one):
        status["podIPs"] = [{"ip": one}]
    elif all_ and not one and all_[0].get("ip"):
        status["podIP"] = all_[0]["ip"]


def _requests_from_limits(resources: Json) -> None:
    limits = resources.get("limits")
    if limits:
        requests = resources.setdefault("requests", {})
        for name, amount in limits.items():
            requests.setdefault(name, amount)


def default_template(holder: Mapping[str, Any] | None) -> None:
    """The pod template in `holder["template"]`, if there is one."""
    template = (holder or {}).get("template")
    if isinstance(template, dict):
        default_spec(template.setdefault("spec", {}))


def default_spec(spec: Json) -> None:
    for name, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
    ):
        if not spec.get(name):
            spec[name] = value
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    _same_service_account(spec)
    for container in containers(spec):
        default_container(container)
    for volume in spec.get("volumes") or ():
        default_volume(volume)
    round_up(spec.get("overhead"))


def _same_service_account(spec: Json) -> None:
    """The deprecated `serviceAccount` is an alias that is written along."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def default_container(container: Json) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            _field_reference(source.get("fieldRef"))
            _file_key(source.get("fileKeyRef"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            default_probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        _http_get(hook.get("httpGet") if isinstance(hook, dict) else None)
    for amounts in (container.get("resources") or {}).values():
        if isinstance(amounts, dict):
            round_up(amounts)


_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
# As the registries' own grammar has it (distribution, "reference").
_REFERENCE = re.compile(
    rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def pull_policy(image: str) -> str:
    """Always for the tag `latest`, named or implied; a digest pins the image. What is no reference has no tag."""
    if not _REFERENCE.fullmatch(image):
        return "IfNotPresent"
    repository, _, digest = image.partition("@")
    _, colon, tag = repository.rpartition("/")[2].partition(":")
    tag = tag if colon else ("" if digest else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def round_up(amounts: Json | None) -> None:
    """Amounts finer than a thousandth are rounded up."""
    for name, amount in (amounts or {}).items():
        if isinstance(amount, str) and amount[-1:] in ("n", "u"):
            amounts[name] = quantity.format_decimal(quantity.parse(f"{quantity.millis(amount)}m"))  # type: ignore[index]


def default_probe(probe: Json) -> None:
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(name):
            probe[name] = value
    _http_get(probe.get("httpGet"))
    if probe.get("grpc") is not None:
        probe["grpc"].setdefault("service", "")


def _http_get(action: Json | None) -> None:
    if action is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def _field_reference(reference: Json | None) -> None:
    if reference is not None:
        reference.setdefault("apiVersion", "v1")


def _file_key(reference: Json | None) -> None:
    if reference is not None:
        reference.setdefault("optional", False)


# -- volumes -----------------------------------------------------------------------------------------------------------


def default_volume(volume: Json) -> None:
    sources = [name for name in volume if name != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for name in sources:
        source = volume[name]
        if isinstance(source, dict):
            default_source(name, source)


def default_source(name: str, source: Json) -> None:
    """Defaults of one volume source, of a pod's volume or of a PersistentVolume."""
    if name in ("configMap", "secret", "downwardAPI", "projected"):
        source.setdefault("defaultMode", 420)
    match name:
        case "hostPath":
            source.setdefault("type", "")
        case "downwardAPI":
            _downward_items(source.get("items") or ())
        case "projected":
            for projection in source.get("sources") or ():
                _default_projection(projection)
        case "iscsi":
            source.setdefault("iscsiInterface", "default")
        case "rbd":
            for key, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
                source.setdefault(key, value)
        case "azureDisk":
            for key, default in (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")):
                source.setdefault(key, default)
            source.setdefault("readOnly", False)
        case "scaleIO":
            source.setdefault("storageMode", "ThinProvisioned")
            source.setdefault("fsType", "xfs")
        case "ephemeral":
            claim = (source.get("volumeClaimTemplate") or {}).get("spec")
            if claim is not None:
                claim.setdefault("volumeMode", "Filesystem")
        case "image":
            if not source.get("pullPolicy"):
                source["pullPolicy"] = pull_policy(source.get("reference") or "")


def _downward_items(items: Iterable[Json]) -> None:
    for item in items:
        _field_reference(item.get("fieldRef"))


def _default_projection(projection: Json) -> None:
    token = projection.get("serviceAccountToken")
    if token is not None:
        token.setdefault("expirationSeconds", 3600)
    _downward_items((projection.get("downwardAPI") or {}).get("items") or ())
