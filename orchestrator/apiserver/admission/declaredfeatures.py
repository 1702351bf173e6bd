"""NodeDeclaredFeatureValidator: a bound pod may be changed only to what its node says it can do.

The features are those of v1.36 that an update may need: resizing the pod as a whole, and an init container that is no
sidecar. Source: KEP-5328; message of kube-apiserver.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.api.resources import NODES
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

POD_LEVEL = "InPlacePodLevelResourcesVerticalScaling"
INIT_CONTAINERS = "InPlacePodVerticalScalingInitContainers"


class NodeDeclaredFeatures:
    operations = ("UPDATE",)
    resources = ("pods", "pods/resize")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.object, attributes.old_object
        if new is None or old is None or meta.generation(new) == meta.generation(old):
            return
        node_name, wanted = (new.get("spec") or {}).get("nodeName"), needed(new, old)
        if not node_name or not wanted:
            return
        node = self._lookup.get(NODES, "", node_name)
        if node is None:
            raise refuse(attributes, f'node "{node_name}" not found')
        declared = (node.get("status") or {}).get("declaredFeatures") or ()
        if missing := [feature for feature in wanted if feature not in declared]:
            why = f"pod update requires features {', '.join(missing)} which are not available on node"
            raise refuse(attributes, f'{why} "{node_name}"')


def needed(new: Object, old: Object) -> list[str]:
    """What a node must be able to do for a pod to become `new`, by name."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    found: list[str] = []
    if (spec.get("resources") or {}) != (before.get("resources") or {}):
        found.append(POD_LEVEL)
    pairs = zip(spec.get("initContainers") or (), before.get("initContainers") or (), strict=False)
    if any(not is_sidecar(was) and now.get("resources") != was.get("resources") for now, was in pairs):
        found.append(INIT_CONTAINERS)
    return found
