"""Every pod has an account and finds its token; nothing is made in a namespace that is going away."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES, SERVICEACCOUNTS
from orchestrator.api.status import Forbidden, NotFound
from orchestrator.api.wire import Identity
from orchestrator.apiserver.admission.chain import Chain
from orchestrator.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from orchestrator.apiserver.admission.serviceaccount import MOUNT_PATH, ServiceAccountAdmission
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes


def account(name: str = "default", **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, **more}


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "d"}, "spec": {"containers": [{"name": "c"}], **spec}}


def create(obj: Object, resource: str = "pods") -> Attributes:
    return Attributes(
        user=Identity("ann"), verb="create", resource=resource, namespace="d", operation="CREATE", object=obj
    )


def admitting(*accounts: Object) -> tuple[MemoryLookup, Chain]:
    lookup = MemoryLookup()
    lookup.put(NAMESPACES, {"metadata": {"name": "d"}, "status": {"phase": "Active"}})
    for one in accounts:
        lookup.put(SERVICEACCOUNTS, one)
    return lookup, Chain([NamespaceLifecycle(lookup), ServiceAccountAdmission(lookup, Random(1))], [])


async def test_a_token_is_mounted_in_every_container() -> None:
    _, chain = admitting(account(imagePullSecrets=[{"name": "pull"}]))
    obj = pod(initContainers=[{"name": "i"}])
    await chain.mutate(create(obj))
    spec = obj["spec"]
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == len("kube-api-access-") + 5
    assert [list(source) for source in volume["projected"]["sources"]] == [
        ["serviceAccountToken"],
        ["configMap"],
        ["downwardAPI"],
    ]
    mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
    assert spec["containers"][0]["volumeMounts"] == spec["initContainers"][0]["volumeMounts"] == [mount]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


@pytest.mark.parametrize(
    ("holder", "spec", "mounted"),
    [
        pytest.param({}, {"automountServiceAccountToken": False}, False, id="the-pod-says-no"),
        pytest.param({"automountServiceAccountToken": False}, {}, False, id="the-account-says-no"),
        pytest.param(
            {"automountServiceAccountToken": False},
            {"automountServiceAccountToken": True},
            True,
            id="the-pod-overrides-the-account",
        ),
        pytest.param(
            {},
            {"containers": [{"name": "c", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]},
            False,
            id="something-is-mounted-there",
        ),
    ],
)
async def test_whether_a_token_is_mounted(holder: dict[str, Any], spec: dict[str, Any], mounted: bool) -> None:
    _, chain = admitting(account(**holder))
    obj = pod(**spec)
    await chain.mutate(create(obj))
    assert ("volumes" in obj["spec"]) is mounted


async def test_a_volume_without_a_name_is_left_to_validation() -> None:
    _, chain = admitting(account())
    obj = pod(volumes=[{}])
    await chain.mutate(create(obj))
    assert len(obj["spec"]["volumes"]) == 2


async def test_an_unknown_account_is_refused() -> None:
    _, chain = admitting(account())
    with pytest.raises(Forbidden) as refused:
        await chain.mutate(create(pod(serviceAccountName="none")))
    assert str(refused.value) == (
        'pods "web" is forbidden: error looking up service account d/none: serviceaccount "none" not found'
    )


async def test_the_default_account_of_a_new_namespace_is_waited_for() -> None:
    lookup, chain = admitting()
    obj = pod()
    waiting = asyncio.create_task(chain.mutate(create(obj)))
    await asyncio.sleep(0)
    lookup.put(SERVICEACCOUNTS, account())
    await asyncio.wait_for(waiting, 1)
    assert obj["spec"]["serviceAccountName"] == "default"


async def test_a_mirror_pod_has_no_account() -> None:
    _, chain = admitting(account())
    obj = pod()
    obj["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    await chain.mutate(create(obj))
    assert "serviceAccountName" not in obj["spec"]
    obj["spec"]["serviceAccountName"] = "default"
    with pytest.raises(Forbidden, match="a mirror pod may not reference service accounts"):
        await chain.mutate(create(obj))


async def test_namespaces() -> None:
    lookup, chain = admitting(account())
    lookup.put(NAMESPACES, {"metadata": {"name": "d"}, "status": {"phase": "Terminating"}})
    with pytest.raises(Forbidden) as refused:
        await chain.mutate(create(pod()))
    assert str(refused.value) == (
        'pods "web" is forbidden: unable to create new content in namespace d because it is being terminated'
    )
    assert refused.value.causes[0].reason == "NamespaceTerminating"
    lookup.remove(NAMESPACES, "", "d")
    with pytest.raises(NotFound, match='namespaces "d" not found'):
        await chain.mutate(create({"metadata": {"name": "c"}}, "configmaps"))
    deletion = Attributes(
        user=Identity("ann"), verb="delete", resource="namespaces", name="default", operation="DELETE"
    )
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        await chain.mutate(deletion)
