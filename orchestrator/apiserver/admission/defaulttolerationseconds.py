"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable, unless it says else.

Source: Kubernetes docs, "Taints and Tolerations", taint based evictions.
"""

from __future__ import annotations

from orchestrator.apiserver.request import Attributes

SECONDS = 300
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds:
    operations = ("CREATE", "UPDATE")
    resources = ("pods",)

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = attributes.object.setdefault("spec", {})
        tolerations = list(spec.get("tolerations") or [])
        for taint in TAINTS:
            covered = any(
                one.get("key", "") in ("", taint) and one.get("effect", "") in ("", "NoExecute") for one in tolerations
            )
            if not covered:
                tolerations.append(
                    {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
                )
        spec["tolerations"] = tolerations
