"""What the server does beside storing claims for devices and slices of them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object, format_time
from orchestrator.api.resources import NAMESPACES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, RESOURCESLICES, Resource
from orchestrator.api.status import Invalid
from orchestrator.api.wire import Identity
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.strategies.deviceadmin import DeviceAdminAccess
from orchestrator.apiserver.strategies.devicetaints import DeviceTaintTimes

NEEDS_LABEL = (
    "spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the "
    "`resource.kubernetes.io/admin-access: true` label on the containing namespace"
)


def writing(row: Resource, obj: Object, operation: str = "CREATE") -> Attributes:
    return Attributes(
        user=Identity("ann"), verb="create", resource=row.plural, row=row, namespace="d", object=obj,
        operation=operation,
    )  # fmt: skip


def claim(**exactly: Any) -> Object:
    asked = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
    requests = [{"name": "a", "exactly": asked}, {"name": "b", "exactly": {**asked, **exactly}}]
    return {"metadata": {"name": "x"}, "spec": {"devices": {"requests": requests}}}


def namespaces(**labels: str) -> MemoryLookup:
    lookup, made = MemoryLookup(), {f"resource.kubernetes.io/{name}": value for name, value in labels.items()}
    lookup.put(NAMESPACES, {"metadata": {"name": "d", "labels": made}})
    return lookup


async def test_admin_access_is_for_namespaces_with_the_label() -> None:
    asking = writing(RESOURCECLAIMS, claim(adminAccess=True))
    with pytest.raises(Invalid) as refused:
        await DeviceAdminAccess(namespaces()).before_write(asking)
    assert str(refused.value) == f'ResourceClaim.resource.k8s.io "x" is invalid: {NEEDS_LABEL}'
    await DeviceAdminAccess(namespaces(**{"admin-access": "true"})).before_write(asking)
    await DeviceAdminAccess(namespaces()).before_write(writing(RESOURCECLAIMS, claim(adminAccess=False)))
    await DeviceAdminAccess(namespaces()).before_write(
        writing(RESOURCECLAIMS, claim(adminAccess=True), operation="UPDATE")
    )


async def test_templates_need_the_label_too_and_all_faults_are_told() -> None:
    template = {"metadata": {"name": "x"}, "spec": {"spec": claim(adminAccess=True, count=-1)["spec"]}}
    with pytest.raises(Invalid) as refused:
        await DeviceAdminAccess(namespaces()).before_write(writing(RESOURCECLAIMTEMPLATES, template))
    assert [f"{cause.field}: {cause.message}" for cause in refused.value.causes] == [
        NEEDS_LABEL,
        "spec.spec.devices.requests[1].exactly.count: Invalid value: -1: must be greater than zero",
    ]


async def test_a_taint_of_a_device_gets_its_time() -> None:
    clock, old = FixedClock(), "2026-01-01T00:00:00Z"
    taints: list[dict[str, str]] = [{"key": "a"}, {"key": "b", "timeAdded": old}]
    await DeviceTaintTimes(clock).before_write(writing(RESOURCESLICES, {"spec": {"devices": [{"taints": taints}]}}))
    assert [taint["timeAdded"] for taint in taints] == [format_time(clock.now()), old]
