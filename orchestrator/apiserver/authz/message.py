"""How a refusal reads: `pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y"`.

Source: the wording of kube-apiserver (endpoints/handlers/responsewriters), which users and tools recognise.
"""

from __future__ import annotations

from orchestrator.api.status import Forbidden, forbidden
from orchestrator.apiserver.request import Attributes


def refusal(attributes: Attributes, reason: str = "") -> Forbidden:
    """The 403 for a request that authorization did not allow."""
    why = f"{cannot(attributes)}: {reason}" if reason else cannot(attributes)
    if not attributes.is_resource:
        return Forbidden(f"forbidden: {why}")
    return forbidden(attributes.group, attributes.resource, attributes.name, why)


def cannot(attributes: Attributes) -> str:
    user = f'User "{attributes.user.name}"'
    if not attributes.is_resource:
        return _escaped(f'{user} cannot {attributes.verb} path "{attributes.path}"')
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    scope = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return _escaped(f'{user} cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {scope}')


def _escaped(text: str) -> str:
    """Markup in a name must not become markup in a browser that shows the answer."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
