"""TokenRequest: a signed token for a service account, for some audiences and a while, bound to an object.

Bound to a pod, the token also records the pod's node. Default: one hour, for the API server itself.
Errors: NotFound for account or object, BadRequest for a binding that cannot be, Conflict for another uid, Invalid for
the lifetime. Source: KEP-1205; authentication/v1 TokenRequest; messages of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from orchestrator.api.status import BadRequest, Conflict, invalid, not_found
from orchestrator.apiserver.authn.serviceaccount import Binding, TokenIssuer, claims_for
from orchestrator.apiserver.handlers import Call, Handler
from orchestrator.apiserver.lookup import Lookup

LIFETIME_DEFAULT_S = 3600
LIFETIME_MIN_S = 600
LIFETIME_MAX_S = 1 << 32
GROUP = "authentication.k8s.io"
BINDABLE: dict[tuple[str, str], Resource] = {("v1", "Pod"): PODS, ("v1", "Secret"): SECRETS, ("v1", "Node"): NODES}


class TokenRequests:
    def __init__(self, issuer: TokenIssuer, lookup: Lookup, clock: Clock, new_id: Callable[[], str]) -> None:
        self._issuer = issuer
        self._lookup = lookup
        self._clock = clock
        self._new_id = new_id

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {("serviceaccounts", "token"): self.create}

    async def create(self, call: Call) -> Object:
        request = call.attributes.object or {}
        namespace, name = call.attributes.namespace, call.attributes.name
        if meta.name(request) not in ("", name):
            raise BadRequest(f"metadata.name: {meta.name(request)} does not match the name of the request")
        account = self._lookup.get(SERVICEACCOUNTS, namespace, name)
        if account is None:
            raise not_found("", "serviceaccounts", name)
        spec = settled(request, name, self._issuer.settings.audiences)
        bound = self._bound(spec.get("boundObjectRef"), namespace, name)
        now, lifetime_s = self._clock.now(), int(spec["expirationSeconds"])
        claims = claims_for(
            account, bound, spec["audiences"], self._issuer.settings.issuer, now, lifetime_s, self._new_id()
        )
        metadata = {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": meta.format_time(now),
            **{key: value for key, value in meta.metadata(request).items() if key in ("labels", "annotations")},
        }
        status = {
            "token": self._issuer.signer.sign(claims),
            "expirationTimestamp": meta.format_time(claims["exp"]),
        }
        return {
            "kind": "TokenRequest",
            "apiVersion": f"{GROUP}/v1",
            "metadata": metadata,
            "spec": spec,
            "status": status,
        }

    def _bound(self, reference: Mapping[str, Any] | None, namespace: str, account: str) -> Binding:
        if not reference:
            return Binding()
        kind = (reference.get("apiVersion", ""), reference.get("kind", ""))
        resource = BINDABLE.get(kind)
        if resource is None:
            raise BadRequest(f"cannot bind token to object of type {kind[0]}, Kind={kind[1]}")
        name = reference.get("name", "")
        found = self._lookup.get(resource, namespace if resource.namespaced else "", name)
        if found is None:
            raise not_found("", resource.plural, name)
        if reference.get("uid") and reference["uid"] != meta.uid(found):
            raise Conflict(
                f'Operation cannot be fulfilled on {resource.kind} "{name}": the UID in the bound object reference '
                f"({reference['uid']}) does not match the UID in record. The object might have been deleted and then "
                "recreated",
                details={"name": name, "kind": resource.kind},
            )
        if resource is PODS:
            return self._of_pod(found, account)
        return Binding(secret=found) if resource is SECRETS else Binding(node=found)

    def _of_pod(self, pod: Object, account: str) -> Binding:
        spec = pod.get("spec") or {}
        if spec.get("serviceAccountName") != account:
            why = f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            raise BadRequest(why)
        node = self._lookup.get(NODES, "", spec["nodeName"]) if spec.get("nodeName") else None
        return Binding(pod=pod, node=node)


def settled(request: Object, name: str, audiences: tuple[str, ...]) -> dict[str, Any]:
    """The request's spec with defaults."""
    spec = dict(request.get("spec") or {})
    spec["audiences"] = spec.get("audiences") or list(audiences)
    lifetime_s = spec.setdefault("expirationSeconds", LIFETIME_DEFAULT_S)
    path = "spec.expirationSeconds"
    cause = None
    if lifetime_s < LIFETIME_MIN_S:
        cause = faults.invalid(path, lifetime_s, "may not specify a duration less than 10 minutes")
    elif lifetime_s > LIFETIME_MAX_S:
        cause = faults.invalid(path, lifetime_s, "may not specify a duration larger than 2^32 seconds")
    if cause is not None:
        raise invalid(GROUP, "TokenRequest", name, [cause])
    return spec
