"""What can be wrong with a container: name, image, ports, environment, mounts, probes, hooks, security.

Each function takes the container (or part) and its path, and returns causes. `volumes` are the pod's valid volumes by
name. Source: core/v1 API reference, Container.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.kinds import faults, formats, resource_faults
from orchestrator.api.kinds.values import in_range, name_of, nonnegative, one_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

ID_MAX = 2**31 - 1
APP_ARMOR_BYTES_MAX = 4095  # a path's
READ_ONLY = ("Disabled", "Enabled", "IfPossible")  # how a mount of mounts is read-only
PROTOCOLS = ("SCTP", "TCP", "UDP")
ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
RESOURCE_FIELDS = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def container(found: Json, path: str, volumes: Mapping[str, Json], claims: set[str], pod: Json) -> list[Cause]:
    """What holds for every container of a pod spec `pod`, init and ephemeral ones included."""
    return [
        *name_of(found.get("name"), f"{path}.name", formats.dns_label, required=True),
        *([] if found.get("image") else [faults.required(f"{path}.image")]),
        *one_of(
            found.get("terminationMessagePolicy"),
            f"{path}.terminationMessagePolicy",
            ("File", "FallbackToLogsOnError"),
        ),
        *ports(found.get("ports") or (), f"{path}.ports"),
        *environment(found.get("env") or (), f"{path}.env"),
        *environment_sources(found.get("envFrom") or (), f"{path}.envFrom"),
        *mounts(found, f"{path}.volumeMounts", volumes),
        *devices(found, f"{path}.volumeDevices", volumes),
        *one_of(found.get("imagePullPolicy"), f"{path}.imagePullPolicy", ("Always", "IfNotPresent", "Never")),
        *resource_faults.requirements(found.get("resources"), f"{path}.resources", claims),
        *_resize_policy(found, f"{path}.resizePolicy", pod),
        *security(found.get("securityContext"), f"{path}.securityContext", pod),
    ]


def ports(found: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(found):
        at, name = f"{path}[{index}]", port.get("name")
        if name:
            complaints = formats.port_name(name)
            causes += faults.each(f"{at}.name", name, complaints)
            if not complaints and name in names:
                causes.append(faults.duplicate(f"{at}.name", name))
            names.add(name)
        number = port.get("containerPort") or 0
        if not number:
            causes.append(faults.required(f"{at}.containerPort"))
        else:
            causes += faults.each(f"{at}.containerPort", number, formats.port_number(number))
        if port.get("hostPort"):
            causes += faults.each(f"{at}.hostPort", port["hostPort"], formats.port_number(port["hostPort"]))
        causes += one_of(port.get("protocol"), f"{at}.protocol", PROTOCOLS)
    return causes


def host_port_conflicts(containers: Sequence[Json], path: str) -> list[Cause]:
    """One host port cannot be taken twice by containers that run together."""
    causes: list[Cause] = []
    taken: set[str] = set()
    for index, found in enumerate(containers):
        for number, port in enumerate(found.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in taken:
                causes.append(faults.duplicate(f"{path}[{index}].ports[{number}].hostPort", key))
            taken.add(key)
    return causes


# -- environment -------------------------------------------------------------------------------------------------------


def environment(variables: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, variable in enumerate(variables):
        at, name = f"{path}[{index}]", variable.get("name") or ""
        if name:
            causes += faults.each(f"{at}.name", name, formats.environment_name(name))
        else:
            causes.append(faults.required(f"{at}.name"))
        if variable.get("valueFrom") is not None:
            causes += _value_from(variable, variable["valueFrom"], f"{at}.valueFrom")
    return causes


def _value_from(variable: Json, source: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if (reference := source.get("fieldRef")) is not None:
        causes += field_reference(reference, f"{path}.fieldRef", ENV_FIELDS)
    if (reference := source.get("resourceFieldRef")) is not None:
        causes += resource_field(reference, f"{path}.resourceFieldRef", needs_container=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if (reference := source.get(name)) is not None:
            causes += _key_reference(reference, f"{path}.{name}")
    if (reference := source.get("fileKeyRef")) is not None:
        causes += _file_key(reference, f"{path}.fileKeyRef")
    count = len([name for name in source if source[name] is not None])
    if not count:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        causes.append(faults.invalid(path, "", detail))
    elif variable.get("value"):
        causes.append(faults.invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        causes.append(faults.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def _file_key(reference: Json, path: str) -> list[Cause]:
    key, volume, place = (reference.get(name) or "" for name in ("key", "volumeName", "path"))
    causes = faults.each(f"{path}.key", key, formats.environment_name(key)) if key else [faults.required(f"{path}.key")]
    causes += name_of(volume, f"{path}.volumeName", formats.dns_label, required=True)
    if not place:
        return [*causes, faults.required(f"{path}.path")]
    if ".." in place.split("/"):
        causes.append(faults.invalid(f"{path}.path", place, "must not contain '..'"))
    return causes


def file_keys(variables: Sequence[Json], path: str, volumes: Mapping[str, Json]) -> list[Cause]:
    """Files of variables lie in volumes of the pod that it can write itself."""
    causes: list[Cause] = []
    for index, variable in enumerate(variables):
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
        if reference is None:
            continue
        at, name = f"{path}[{index}].valueFrom.fileKeyRef.volumeName", reference.get("volumeName") or ""
        if name not in volumes:
            causes.append(faults.not_found(at, name))
        elif volumes[name].get("emptyDir") is None:
            causes.append(faults.invalid(at, name, "referenced volume must be of type emptyDir"))
    return causes


def field_reference(reference: Json, path: str, supported: Sequence[str]) -> list[Cause]:
    if not reference.get("apiVersion"):
        return [faults.required(f"{path}.apiVersion")]
    field = reference.get("fieldPath") or ""
    if not field:
        return [faults.required(f"{path}.fieldPath")]
    known = {*ENV_FIELDS, "metadata.labels", "metadata.annotations", "spec.restartPolicy", "spec.schedulerName",
             "status.phase", "status.nominatedNodeName", "spec.hostNetwork"}  # fmt: skip
    base, bracket, subscript = field.partition("['")
    if bracket and subscript.endswith("']"):
        key = subscript[:-2]
        if base == "metadata.annotations":
            return faults.each(path, key.lower(), formats.qualified_name(key.lower()))
        if base == "metadata.labels":
            return faults.each(path, key, formats.qualified_name(key))
        if base in known:
            return [faults.invalid(path, base, "does not support subscript")]
    if field not in known:
        detail = f"error converting fieldPath: field label not supported: {field}"
        return [faults.invalid(f"{path}.fieldPath", field, detail)]
    if field not in supported:
        return [faults.not_supported(f"{path}.fieldPath", field, sorted(supported))]
    return []


def resource_field(reference: Json, path: str, *, needs_container: bool) -> list[Cause]:
    resource = reference.get("resource") or ""
    if needs_container and not reference.get("containerName"):
        return [faults.required(f"{path}.containerName")]
    if not resource:
        return [faults.required(f"{path}.resource")]
    if resource not in RESOURCE_FIELDS and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        return [faults.not_supported(f"{path}.resource", resource, RESOURCE_FIELDS)]
    return []


def _key_reference(reference: Json, path: str) -> list[Cause]:
    name, key = reference.get("name") or "", reference.get("key") or ""
    causes = faults.each(f"{path}.name", name, formats.dns_subdomain(name))
    if not key:
        return [*causes, faults.required(f"{path}.key")]
    return causes + faults.each(f"{path}.key", key, formats.config_key(key))


def environment_sources(sources: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, source in enumerate(sources):
        at, prefix = f"{path}[{index}]", source.get("prefix") or ""
        if prefix:
            causes += faults.each(f"{at}.prefix", prefix, formats.environment_name(prefix))
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for name in given:
            causes += name_of(source[name].get("name"), f"{at}.{name}.name", formats.dns_subdomain, required=True)
        if not given:
            causes.append(faults.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            causes.append(faults.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


# -- mounts ------------------------------------------------------------------------------------------------------------


def mounts(found: Json, path: str, volumes: Mapping[str, Json]) -> list[Cause]:
    causes: list[Cause] = []
    device_names = {device.get("name") for device in found.get("volumeDevices") or ()}
    device_paths = {device.get("devicePath") for device in found.get("volumeDevices") or ()}
    places: set[str] = set()
    for index, mount in enumerate(found.get("volumeMounts") or ()):
        at, name, place = f"{path}[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            causes.append(faults.required(f"{at}.name"))
        if name not in volumes:
            causes.append(faults.not_found(f"{at}.name", name))
        if not place:
            causes.append(faults.required(f"{at}.mountPath"))
        if place in places:
            causes.append(faults.invalid(f"{at}.mountPath", place, "must be unique"))
        places.add(place)
        if name in device_names:
            causes.append(faults.invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if place in device_paths:
            detail = "must not already exist as a path in volumeDevices"
            causes.append(faults.invalid(f"{at}.mountPath", place, detail))
        causes += _sub_path(mount, at, path)
        causes += _propagation(found, mount, path)
        causes += _recursive_read_only(mount, path)
    return causes


def _recursive_read_only(mount: Json, path: str) -> list[Cause]:
    value, at = mount.get("recursiveReadOnly"), f"{path}.recursiveReadOnly"
    if value is None or value == "Disabled":
        return []
    if value not in READ_ONLY:
        return [faults.not_supported(at, value, READ_ONLY)]
    causes = []
    if not mount.get("readOnly"):
        causes.append(faults.forbidden(at, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        detail = "may only be specified when mountPropagation is None or not specified"
        causes.append(faults.forbidden(at, detail))
    return causes


def _sub_path(mount: Json, at: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if sub_path := mount.get("subPath"):
        causes += descending_path(sub_path, f"{path}.subPath")
    if expression := mount.get("subPathExpr"):
        if mount.get("subPath"):
            detail = "subPathExpr and subPath are mutually exclusive"
            causes.append(faults.invalid(f"{at}.subPathExpr", expression, detail))
        causes += descending_path(expression, f"{path}.subPathExpr")
    return causes


def _propagation(found: Json, mount: Json, path: str) -> list[Cause]:
    value = mount.get("mountPropagation")
    causes = one_of(value, f"{path}.mountPropagation", ("Bidirectional", "HostToContainer", "None"), required=False)
    if value == "Bidirectional" and not (found.get("securityContext") or {}).get("privileged"):
        detail = "Bidirectional mount propagation is available only to privileged containers"
        causes.append(faults.forbidden(f"{path}.mountPropagation", detail))
    return causes


def descending_path(place: str, path: str) -> list[Cause]:
    """A relative path that never climbs."""
    causes = [faults.invalid(path, place, "must be a relative path")] if place.startswith("/") else []
    return causes + no_backsteps(place, path)


def no_backsteps(place: str, path: str) -> list[Cause]:
    return [faults.invalid(path, place, "must not contain '..'")] if ".." in place.split("/") else []


def devices(found: Json, path: str, volumes: Mapping[str, Json]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    places: set[str] = set()
    for index, device in enumerate(found.get("volumeDevices") or ()):
        at, name, place = f"{path}[{index}]", device.get("name") or "", device.get("devicePath") or ""
        if not name:
            causes.append(faults.required(f"{at}.name"))
        if name in names:
            causes.append(faults.invalid(f"{at}.name", name, "must be unique"))
        if name not in volumes:
            causes.append(faults.not_found(f"{at}.name", name))
        elif not {"persistentVolumeClaim", "ephemeral"} & volumes[name].keys():
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(faults.invalid(f"{at}.name", name, detail))
        if not place:
            causes.append(faults.required(f"{at}.devicePath"))
        if place in places:
            causes.append(faults.invalid(f"{at}.devicePath", place, "must be unique"))
        if ".." in place.split("/"):
            causes.append(faults.invalid(f"{at}.devicePath", place, "can not contain backsteps ('..')"))
        names.add(name)
        places.add(place)
    return causes


# -- probes and hooks --------------------------------------------------------------------------------------------------


def probes(found: Json, path: str, grace_s: int | None) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = found.get(name)
        if probe is None:
            continue
        at = f"{path}.{name}"
        causes += handler(probe, at, grace_s)
        causes += nonnegative(
            probe, at, "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"
        )
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and grace <= 0:
            causes.append(faults.invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
        if name == "readinessProbe":
            if grace is not None:
                detail = "must not be set for readinessProbes"
                causes.append(faults.invalid(f"{at}.terminationGracePeriodSeconds", grace, detail))
        elif probe.get("successThreshold") != 1:
            causes.append(faults.invalid(f"{at}.successThreshold", probe.get("successThreshold") or 0, "must be 1"))
    return causes


def lifecycle(found: Json | None, path: str, grace_s: int | None) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("postStart", "preStop"):
        if found and found.get(name) is not None:
            causes += handler(found[name], f"{path}.{name}", grace_s)
    return causes


def handler(found: Json, path: str, grace_s: int | None) -> list[Cause]:
    """Exactly one action."""
    causes: list[Cause] = []
    given = [name for name in HANDLERS if found.get(name) is not None]
    for position, name in enumerate(given):
        if position:
            causes.append(faults.forbidden(f"{path}.{name}", "may not specify more than 1 handler type"))
        else:
            causes += _action(name, found[name], f"{path}.{name}", grace_s)
    if not given:
        causes.append(faults.required(path, "must specify a handler type"))
    return causes


def _action(name: str, action: Json, path: str, grace_s: int | None) -> list[Cause]:
    match name:
        case "exec":
            return [] if action.get("command") else [faults.required(f"{path}.command")]
        case "httpGet":
            causes = [] if action.get("path") else [faults.required(f"{path}.path")]
            causes += port(action.get("port"), f"{path}.port")
            causes += one_of(action.get("scheme"), f"{path}.scheme", ("HTTP", "HTTPS"))
            for header in action.get("httpHeaders") or ():
                title = header.get("name") or ""
                causes += faults.each(f"{path}.httpHeaders", title, formats.header_name(title))
            return causes
        case "sleep":
            seconds = action.get("seconds", 0)
            if grace_s is not None and not 0 <= seconds <= grace_s:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
                return [faults.invalid(path, seconds, detail)]
            return []
    return port(action.get("port"), f"{path}.port")


def port(value: Any, path: str) -> list[Cause]:
    """A port by number or name."""
    if isinstance(value, str):
        return faults.each(path, value, formats.port_name(value))
    return faults.each(path, value or 0, formats.port_number(value or 0))


# -- the rest ----------------------------------------------------------------------------------------------------------


def _resize_policy(found: Json, path: str, pod: Json) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, policy in enumerate(found.get("resizePolicy") or ()):
        resource, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if resource in seen:
            causes.append(faults.duplicate(f"{path}[{index}]", resource))
        seen.add(resource)
        causes += one_of(resource, path, ("cpu", "memory"))
        causes += one_of(restart, path, ("NotRequired", "RestartContainer"))
        if pod.get("restartPolicy") == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            causes.append(faults.invalid(path, restart, detail))
    return causes


def security(context: Json | None, path: str, pod: Json) -> list[Cause]:
    if context is None:
        return []
    causes = in_range(context.get("runAsUser"), f"{path}.runAsUser", 0, ID_MAX)
    causes += in_range(context.get("runAsGroup"), f"{path}.runAsGroup", 0, ID_MAX)
    mount = context.get("procMount")
    causes += one_of(mount, f"{path}.procMount", ("Default", "Unmasked"), required=False)
    if mount == "Unmasked" and pod.get("hostUsers", True):
        causes.append(faults.invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    causes += seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    causes += app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")
    if context.get("allowPrivilegeEscalation") is False:
        rule = "cannot set `allowPrivilegeEscalation` to false and"
        if context.get("privileged"):
            causes.append(faults.invalid(path, context, f"{rule} `privileged` to true"))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            causes.append(faults.invalid(path, context, f"{rule} `capabilities.Add` CAP_SYS_ADMIN"))
    return causes


def app_armor(profile: Json | None, path: str) -> list[Cause]:
    if profile is None:
        return []
    kind, local, at = profile.get("type") or "", profile.get("localhostProfile"), f"{path}.localhostProfile"
    needed = faults.required(at, "must be set when AppArmor type is Localhost")
    if kind == "Localhost":
        if local is None:
            return [needed]
        causes = [] if local.strip() else [needed] if not local else []
        if local.strip() != local:
            causes.append(faults.invalid(at, local, "must not be padded with whitespace"))
        return causes + ([faults.too_long(at, APP_ARMOR_BYTES_MAX)] if len(local) > APP_ARMOR_BYTES_MAX else [])
    if not kind:
        return [faults.required(f"{path}.type", "type is required when appArmorProfile is set")]
    if kind not in ("RuntimeDefault", "Unconfined"):
        return [faults.not_supported(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))]
    if local is not None:
        return [faults.invalid(at, local, "can only be set when AppArmor type is Localhost")]
    return []


def seccomp(profile: Json | None, path: str) -> list[Cause]:
    if profile is None:
        return []
    kind = profile.get("type") or ""
    local = profile.get("localhostProfile")
    if kind == "Localhost":
        if local is None:
            return [faults.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")]
        return descending_path(local, f"{path}.localhostProfile")
    if local is not None:
        detail = "can only be set when seccomp type is Localhost"
        return [faults.invalid(f"{path}.localhostProfile", profile, detail)]
    if not kind:
        return [faults.required(f"{path}.type", "type is required when seccompProfile is set")]
    return one_of(kind, f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))
