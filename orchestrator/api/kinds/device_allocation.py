"""What can be wrong with the status of a ResourceClaim: who uses it, what was allocated, and how its devices are.

Source: resource.k8s.io/v1 API reference, ResourceClaimStatus; upstream pkg/apis/resource/validation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import condition_faults, faults, go_values, scheduling_faults
from orchestrator.api.kinds.device_claims import Names, references, request_names, request_reference
from orchestrator.api.kinds.device_values import (
    CONFIGS_MAX,
    PARAMETERS_BYTES_MAX,
    Check,
    bindings,
    configuration,
    each_of,
    label,
    pool_name,
    raw_object,
    uid,
)
from orchestrator.api.kinds.values import one_of
from orchestrator.api.kinds.volume_faults import csi_driver
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

CONSUMERS_MAX, RESULTS_MAX, CONDITIONS_MAX, ADDRESSES_MAX = 256, 32, 8, 16
INTERFACE_NAME_MAX, HARDWARE_ADDRESS_MAX = 256, 128  # bytes


DeviceId = tuple[tuple[str, str], ...]


def device_ids(allocation: Json | None) -> set[DeviceId]:
    return {device_id(result) for result in ((allocation or {}).get("devices") or {}).get("results") or ()}


def device_id(device: Json) -> DeviceId:
    """The key of a device, or of the share of one; as a dict it is what messages show."""
    fields = (("Driver", "driver"), ("Pool", "pool"), ("Device", "device"), ("ShareID", "shareID"))
    return tuple((go, device.get(name) or "") for go, name in fields)


def forget_released(new: Object, old: Object) -> None:
    """What is known of a device goes with its allocation."""
    status = new.get("status") or {}
    released = device_ids((old.get("status") or {}).get("allocation")) - device_ids(status.get("allocation"))
    if status.get("devices"):
        status["devices"] = [device for device in status["devices"] if device_id(device) not in released]
        if not status["devices"]:
            del status["devices"]


def claim_status(new: Object, old: Object) -> list[Cause]:
    status, before = new.get("status") or {}, old.get("status") or {}
    consumers, allocation = status.get("reservedFor") or [], status.get("allocation")
    causes = each_of(consumers, "status.reservedFor", _consumer, CONSUMERS_MAX, lambda one: one.get("uid") or "")
    causes += _devices(status.get("devices") or [], "status.devices", device_ids(allocation))
    if consumers and allocation is None:
        detail = "may not be specified when `allocated` is not set"
        causes.append(faults.forbidden("status.reservedFor", detail))
    elif meta.is_deleting(new) and any(one not in (before.get("reservedFor") or ()) for one in consumers):
        detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        causes.append(faults.forbidden("status.reservedFor", detail))
    if allocation is None:
        return causes
    if before.get("allocation") is not None:
        shown = [go_values.go_value(one, go_values.ALLOCATION) for one in (allocation, before["allocation"])]
        return causes + go_values.immutable("status.allocation", *shown)
    names = request_names((new.get("spec") or {}).get("devices") or {})
    return causes + _allocation(allocation, "status.allocation", names)


def _consumer(consumer: Json, path: str) -> list[Cause]:
    return [faults.required(f"{path}.{name}") for name in ("resource", "name", "uid") if not consumer.get(name)]


# -- allocation --------------------------------------------------------------------------------------------------------


def _allocation(allocation: Json, path: str, names: Names) -> list[Cause]:
    devices = allocation.get("devices") or {}
    causes = each_of(devices.get("results") or (), f"{path}.devices.results", _result(names), RESULTS_MAX)
    # Both the class's configurations and the claim's.
    causes += each_of(devices.get("config") or (), f"{path}.devices.config", _config(names), 2 * CONFIGS_MAX)
    if (selector := allocation.get("nodeSelector")) is not None:
        causes += scheduling_faults.node_selector(selector, f"{path}.nodeSelector")
    return causes


def _result(names: Names) -> Check:
    def check(result: Json, path: str) -> list[Cause]:
        causes = request_reference(names)(result.get("request") or "", f"{path}.request")
        causes += _place(result, path) + bindings(result, path)
        share = result.get("shareID")
        return causes if share is None else causes + uid(share, f"{path}.shareID")

    return check


def _place(device: Json, path: str) -> list[Cause]:
    return [
        *csi_driver(device.get("driver") or "", f"{path}.driver"),
        *pool_name(device.get("pool") or "", f"{path}.pool"),
        *label(device.get("device") or "", f"{path}.device"),
    ]


def _config(names: Names) -> Check:
    def check(config: Json, path: str) -> list[Cause]:
        causes = one_of(config.get("source"), f"{path}.source", ("FromClaim", "FromClass"))
        return causes + references(config, path, names) + configuration(config, path)

    return check


# -- devices -----------------------------------------------------------------------------------------------------------


def _devices(devices: list[Json], path: str, allocated: set[DeviceId]) -> list[Cause]:
    causes = each_of(devices, path, _device(allocated))
    seen: set[DeviceId] = set()
    for index, device in enumerate(devices):
        if (found := device_id(device)) in seen:
            causes.append(faults.duplicate(f"{path}[{index}]", dict(found)))
        seen.add(found)
    return causes


def _device(allocated: set[DeviceId]) -> Check:
    def check(device: Json, path: str) -> list[Cause]:
        causes = _place(device, path)
        if device.get("shareID") is not None:
            causes += uid(device["shareID"], f"{path}.shareID")
        if device_id(device) not in allocated:
            causes.append(faults.invalid(path, dict(device_id(device)), "must be an allocated device in the claim"))
        conditions = device.get("conditions") or []
        if len(conditions) > CONDITIONS_MAX:
            causes.append(faults.too_many(f"{path}.conditions", len(conditions), CONDITIONS_MAX))
        causes += condition_faults.of(conditions, f"{path}.conditions")
        if device.get("data") is not None:
            causes += raw_object(device["data"], f"{path}.data", PARAMETERS_BYTES_MAX)
        return causes + _network(device.get("networkData") or {}, f"{path}.networkData")

    return check


def _network(network: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name, bytes_max in (("interfaceName", INTERFACE_NAME_MAX), ("hardwareAddress", HARDWARE_ADDRESS_MAX)):
        if len((network.get(name) or "").encode()) > bytes_max:
            causes.append(faults.too_long(f"{path}.{name}", bytes_max))
    return causes + each_of(network.get("ips") or (), f"{path}.ips", _interface_address, ADDRESSES_MAX, str)


def _interface_address(text: str, path: str) -> list[Cause]:
    """An address with the length of its network's prefix, in the one spelling that the server itself would use."""
    address, _, length = text.partition("/")
    octets = [octet.lstrip("0") or "0" for octet in address.split(".")] if ":" not in address else []
    try:
        found = ipaddress.ip_interface(
            f"{'.'.join(octets) or address}/{length}" if length.isdigit() and "%" not in address else ""
        )
    except ValueError:
        detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        return [faults.invalid(path, text, detail)]
    mapped = found.ip.ipv4_mapped if isinstance(found.ip, ipaddress.IPv6Address) else None
    prefix = found.network.prefixlen
    canonical = f"{found.ip}/{prefix}"
    if mapped is not None:
        canonical = f"{mapped}/{prefix - 96 if prefix > 32 else prefix}"
    return [] if text == canonical else [faults.invalid(path, text, f'must be in canonical form ("{canonical}")')]
