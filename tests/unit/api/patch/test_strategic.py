"""Strategic merge patch on pods: merge keys, order and every directive."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import schema
from orchestrator.api.patch import strategic
from orchestrator.api.resources import DEPLOYMENTS, PODS

POD = schema.type_of(PODS)
DEPLOYMENT = schema.type_of(DEPLOYMENTS)
assert POD is not None and DEPLOYMENT is not None


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


CONTAINERS = spec(containers=[{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        pytest.param(
            CONTAINERS,
            spec(containers=[{"name": "b", "image": "2"}]),
            spec(containers=[{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]),
            id="an item is merged by its key",
        ),
        pytest.param(
            CONTAINERS,
            spec(containers=[{"name": "c"}, {"name": "a", "$patch": "delete"}]),
            spec(containers=[{"name": "c"}, {"name": "b", "image": "1"}]),
            id="patch delete removes an item, a new item comes in front of the server's",
        ),
        pytest.param(
            CONTAINERS,
            spec(containers=[{"$patch": "replace"}, {"name": "z"}]),
            spec(containers=[{"name": "z"}]),
            id="patch replace replaces the list",
        ),
        pytest.param(
            CONTAINERS,
            spec(containers=[{"name": "z", "image": "1"}, {"name": "z", "image": "2"}, {"$patch": "replace"}]),
            spec(containers=[{"name": "z", "image": "1"}, {"name": "z", "image": "2"}]),
            id="what replaces a list is taken as it is, equal keys too",
        ),
        pytest.param(
            CONTAINERS,
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
            spec(containers=[{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]),
            id="the order is set",
        ),
        pytest.param(
            CONTAINERS,
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                    "containers": [{"name": "c", "image": "3"}],
                }
            },
            spec(containers=[{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
            id="an item of the server keeps its place before its successor",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b", "c"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}},
            {"metadata": {"finalizers": ["a", "c"]}},
            id="items are deleted from a primitive list",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["c", "a"]}},
            {"metadata": {"finalizers": ["c", "a", "b"]}},
            id="primitive lists with a merge strategy are sets",
        ),
        pytest.param(
            spec(tolerations=[{"key": "a"}, {"key": "b"}]),
            spec(tolerations=[{"key": "c"}]),
            spec(tolerations=[{"key": "c"}]),
            id="a list without a strategy is replaced",
        ),
        pytest.param(
            spec(volumes=[{"name": "v", "emptyDir": {}}]),
            spec(volumes=[{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]),
            spec(volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
            id="retainKeys drops the other keys",
        ),
        pytest.param(
            spec(nodeSelector={"a": "1"}, securityContext={"runAsUser": 1}),
            {"spec": {"nodeSelector": {"$patch": "replace", "b": "2"}, "securityContext": {"$patch": "delete"}}},
            spec(nodeSelector={"b": "2"}, securityContext={}),
            id="maps are replaced and deleted",
        ),
        pytest.param({"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"a": None, "b": None}}},
                     {"metadata": {"labels": {}}}, id="null deletes"),
    ],
)  # fmt: skip
def test_merge(original: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    assert strategic.merge(original, patch, POD) == result


def test_strategy_of_deployments_is_retained_by_key() -> None:
    live = spec(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.merge(live, patch, DEPLOYMENT) == spec(strategy={"type": "Recreate"})


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (
            {"metadata": {"$setElementOrder/finalizers": ["a/b"], "finalizers": ["c/d"]}},
            "The order in patch list:\n[c/d]\n doesn't match $setElementOrder list:\n[a/b]\n",
        ),
        ({"metadata": {"$patch": "foo"}}, "unknown patch type: foo in map: map[$patch:foo]"),
        (spec(containers=[{"image": "x"}]), "map: map[image:x] does not contain declared merge key: name"),
    ],
)
def test_contradictions_are_told_as_kube_apiserver_tells_them(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(strategic.StrategicPatchError) as caught:
        strategic.merge({**CONTAINERS, "metadata": {}}, patch, POD)
    assert caught.value.message == message


names = st.lists(st.sampled_from("abcde"), unique=True)


@given(names, names)
def test_a_merged_list_keeps_every_item_once_and_the_patch_order(live: list[str], patch: list[str]) -> None:
    result = strategic.merge(
        spec(containers=[{"name": name} for name in live]), spec(containers=[{"name": name} for name in patch]), POD
    )
    merged = [item["name"] for item in result["spec"]["containers"]]
    assert sorted(merged) == sorted({*live, *patch})
    assert [name for name in merged if name in patch] == patch
    others = [name for name in live if name not in patch]
    assert [name for name in merged if name in others] == others
