"""Admin access to devices that others use: only a namespace that says so in its label may claim it.

Source: KEP-5018; resource.k8s.io/v1 API reference, ExactDeviceRequest, `adminAccess`.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.api import meta, status
from orchestrator.api.kinds import devices, faults
from orchestrator.api.resources import NAMESPACES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES
from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

LABEL = "resource.kubernetes.io/admin-access"


class DeviceAdminAccess:
    """Asks when an object is created: its spec never changes.

    Deviation: that a status says that access was granted is not asked; kube-apiserver looks at the label there too.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def strategies(self) -> Mapping[str, Strategy]:
        return {row.group_resource: self for row in (RESOURCECLAIMS, RESOURCECLAIMTEMPLATES)}

    async def before_write(self, attributes: Attributes) -> None:
        obj, row = attributes.object, attributes.row
        if obj is None or row is None or attributes.operation != "CREATE":
            return
        is_claim = row.plural == RESOURCECLAIMS.plural
        spec = obj.get("spec") or {}
        claim = (spec if is_claim else spec.get("spec") or {}).get("devices") or {}
        asking = [
            index
            for index, request in enumerate(claim.get("requests") or ())
            if (request.get("exactly") or {}).get("adminAccess")
        ]
        namespace = self._lookup.get(NAMESPACES, "", attributes.namespace) or {}
        if not asking or meta.labels(namespace).get(LABEL) == "true":
            return
        # The path is upstream's: that of the first version of the API, and the same for templates.
        path = f"spec.devices.requests[{asking[0]}].adminAccess"
        detail = f"admin access to devices requires the `{LABEL}: true` label on the containing namespace"
        others = devices.claim(obj) if is_claim else devices.template(obj)
        raise status.invalid(row.group, row.kind, meta.name(obj), [faults.forbidden(path, detail), *others])

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        """Nothing was taken, so there is nothing to give back."""
