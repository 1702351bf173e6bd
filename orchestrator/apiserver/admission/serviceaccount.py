"""ServiceAccount: every pod has an account, and finds a token of it at the usual place.

A pod without an account gets `default`. Unless pod or account says no, a projected volume `kube-api-access-xxxxx` is
added and mounted in each container that has nothing mounted there. An account that is just being made (the `default`
of a new namespace) is waited for. Mirror pods have no account and may use no secret.
Errors: Forbidden for an account that does not exist. Source: Kubernetes docs, "Managing Service Accounts"; KEP-1205.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import SERVICEACCOUNTS
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.authz.podreferences import references
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

DEFAULT_ACCOUNT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_LIFETIME_S = 3607  # an hour and a little, by which such tokens are told from others
ROOT_CA = "kube-root-ca.crt"
DEFAULT_MODE = 0o644
WAIT_FOR_ACCOUNT_S = 2.0
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccountAdmission:
    operations = ("CREATE",)
    resources = ("pods",)

    def __init__(self, lookup: Lookup, random: Random) -> None:
        self._lookup = lookup
        self._random = random
        self._arrivals: dict[tuple[str, str], asyncio.Event] = {}
        lookup.subscribe(SERVICEACCOUNTS, self._account_changed)

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        if meta.MIRROR_ANNOTATION in meta.annotations(pod):
            check_mirror(attributes, pod)
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT_ACCOUNT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes.namespace, name)
        if account is None:
            where = f"{attributes.namespace}/{name}"
            why = f'error looking up service account {where}: serviceaccount "{name}" not found'
            raise refuse(attributes, why)
        if wants_token(spec, account):
            mount_token(spec, VOLUME_PREFIX + "".join(self._random.choices(SUFFIX_ALPHABET, k=5)))
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(entry) for entry in account["imagePullSecrets"]]

    async def _account(self, namespace: str, name: str) -> Object | None:
        found = self._lookup.get(SERVICEACCOUNTS, namespace, name)
        if found is not None or name != DEFAULT_ACCOUNT:
            return found
        arrival = self._arrivals.setdefault((namespace, name), asyncio.Event())
        try:
            await asyncio.wait_for(arrival.wait(), WAIT_FOR_ACCOUNT_S)
        except TimeoutError:
            self._arrivals.pop((namespace, name), None)
        return self._lookup.get(SERVICEACCOUNTS, namespace, name)

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            arrival = self._arrivals.pop((meta.namespace(new), meta.name(new)), None)
            if arrival is not None:
                arrival.set()


def check_mirror(attributes: Attributes, pod: Object) -> None:
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        raise refuse(attributes, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _ in references(pod)):
        raise refuse(attributes, "a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        if any("serviceAccountToken" in source for source in (volume.get("projected") or {}).get("sources") or ()):
            raise refuse(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def wants_token(spec: dict[str, Any], account: Object) -> bool:
    """The pod decides; where it says nothing the account does; where neither does, yes."""
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def mount_token(spec: dict[str, Any], new_name: str) -> None:
    volumes = spec.get("volumes") or []
    names = [volume.get("name") or "" for volume in volumes]  # not yet validated
    present = next((name for name in names if name.startswith(VOLUME_PREFIX)), None)
    name = present or new_name
    mounted = False
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        mounts = container.get("volumeMounts") or []
        if not any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
            mounted = True
    if mounted and present is None:
        spec["volumes"] = [*volumes, token_volume(name)]


def token_volume(name: str) -> dict[str, Any]:
    """Token, root certificate and namespace, as a client in the pod expects to find them."""
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "name": name,
        "projected": {
            "defaultMode": DEFAULT_MODE,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME_S, "path": "token"}},
                {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
            ],
        },
    }
