"""ComponentStatus: how the parts of the control plane are, asked at each read; nothing of it is stored.

Upstream asks the health ports that a scheduler and a controller manager have on the API server's own host. Here they
may share its process: then they are well while they run. Where they do not, each shows itself by the lease that its
leader renews; one that is nowhere to be seen is not listed. The store is `etcd-0`, as in the health checks.
Source: API reference, "ComponentStatus v1" (deprecated since v1.19).
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import COMPONENTSTATUSES, LEASES
from orchestrator.apiserver import encoding
from orchestrator.apiserver.health import Check, asked
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.resourcecache import Entry, ResourceCache

NAMESPACE = "kube-system"
LEADERS = {"scheduler": "kube-scheduler", "controller-manager": "kube-controller-manager"}


class Components:
    """`checks` are those of this process, by the name of the component."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self.checks: dict[str, Check] = {}

    async def observe(self, cache: ResourceCache) -> None:
        """Puts what there is into the cache of the resource, where all reads look."""
        seen = {name: await asked(check) for name, check in self.checks.items()}
        for name, lease in LEADERS.items():
            if name not in seen and (held := self._lookup.get(LEASES, NAMESPACE, lease)) is not None:
                seen[name] = self._late(held)
        cache.show([_entry(cache, name, why) for name, why in sorted(seen.items())])

    def _late(self, lease: Object) -> str | None:
        """Why its holder is not thought to live."""
        spec = lease.get("spec") or {}
        name = f"{NAMESPACE}/{meta.name(lease)}"
        if not spec.get("holderIdentity") or not spec.get("renewTime"):
            return f"lease {name}: nobody holds it"
        age_s = self._clock.now() - meta.parse_time(spec["renewTime"])
        limit_s = spec.get("leaseDurationSeconds") or 0
        return f"lease {name}: not renewed for {age_s:.0f} s, it lasts {limit_s} s" if age_s > limit_s else None


def _entry(cache: ResourceCache, name: str, why: str | None) -> Entry:
    condition = {"type": "Healthy", "status": "False", "error": why}
    if why is None:
        condition = {"type": "Healthy", "status": "True", "message": "ok"}
    obj = {"metadata": {"name": name}, "conditions": [condition]}
    return Entry(cache.key("", name), "", name, encoding.encode(COMPONENTSTATUSES, obj), 0, 0, cache.picker)
