"""Priority: a pod's priority number comes from its class, and from nothing else.

Without a class the global default counts, if there is one, else 0. An update keeps what creation found.
Errors: Forbidden for a class that does not exist or a number that is not the class's.
Source: Kubernetes docs, "Pod Priority and Preemption"; messages of kube-apiserver.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PRIORITYCLASSES
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

PREEMPT_LOWER = "PreemptLowerPriority"
DEFAULT_PRIORITY = 0
API_VERSION = "scheduling.k8s.io/v1"

# The classes that every cluster has, above all that users may define.
SYSTEM_CLASSES: tuple[Object, ...] = tuple(
    {
        "apiVersion": API_VERSION,
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "preemptionPolicy": PREEMPT_LOWER,
        "description": description,
    }
    for name, value, description in (
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if "
            "necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    )
)


class Priority:
    operations = ("CREATE", "UPDATE")
    resources = ("pods", "priorityclasses.scheduling.k8s.io")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None or attributes.resource != "pods":
            return
        spec = pod.setdefault("spec", {})
        if attributes.operation == "UPDATE":
            before = (attributes.old_object or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if spec.get(field) is None and before.get(field) is not None:
                    spec[field] = before[field]
            return
        value, policy = self._class_of(attributes, spec)
        for field, wanted, what in (
            ("priority", value, "the integer value of priority"),
            ("preemptionPolicy", policy, "the string value of PreemptionPolicy"),
        ):
            given = spec.get(field)
            if given is not None and given != wanted:
                why = (
                    f"{what} ({given}) must not be provided in pod spec; priority admission controller computed "
                    f"{wanted} from the given PriorityClass name"
                )
                raise refuse(attributes, why)
            spec[field] = wanted

    def _class_of(self, attributes: Attributes, spec: Object) -> tuple[int, str]:
        name = spec.get("priorityClassName")
        if not name:
            default = self._default()
            if default is None:
                return DEFAULT_PRIORITY, PREEMPT_LOWER
            spec["priorityClassName"] = name = meta.name(default)
        found = self._lookup.get(PRIORITYCLASSES, "", name)
        if found is None:
            raise refuse(attributes, f"no PriorityClass with name {name} was found")
        return found.get("value", 0), found.get("preemptionPolicy") or PREEMPT_LOWER

    def _default(self) -> Object | None:
        """Two servers may have let in two defaults: the lower one counts."""
        found = [one for one in self._lookup.list(PRIORITYCLASSES) if one.get("globalDefault")]
        return min(found, key=lambda one: one.get("value", 0), default=None)

    async def validate(self, attributes: Attributes) -> None:
        new = attributes.object
        if new is None or attributes.resource != "priorityclasses" or not new.get("globalDefault"):
            return
        default = self._default()
        if default is not None and meta.name(default) != meta.name(new):
            why = f"PriorityClass {meta.name(default)} is already marked as default. Only one default can exist"
            raise refuse(attributes, why)
