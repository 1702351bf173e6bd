"""Server-side apply: laws on generated objects; single answers are among the recorded cases."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import schema
from orchestrator.api.patch import managed_fields, structured
from orchestrator.api.patch.apply import apply
from orchestrator.api.patch.managed_fields import UPDATE_MANAGERS_MAX, Writer
from orchestrator.api.resources import CONFIGMAPS, DEPLOYMENTS, SECRETS, SERVICEACCOUNTS
from orchestrator.api.status import ApiError
from orchestrator.api.structural import compiled

CONFIG_MAP, DEPLOYMENT = schema.type_of(CONFIGMAPS), schema.type_of(DEPLOYMENTS)
assert CONFIG_MAP is not None and DEPLOYMENT is not None

names = st.sampled_from("abc")
data = st.dictionaries(names, st.sampled_from("12"), max_size=3)
containers = st.dictionaries(names, st.sampled_from(["i:1", "i:2"]), min_size=1, max_size=3)


def config_map(data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, **({"data": data} if data else {})}


def deployment(images: dict[str, str], replicas: int) -> dict[str, Any]:
    pods = [{"name": name, "image": image} for name, image in images.items()]
    spec = {"replicas": replicas, "template": {"spec": {"containers": pods}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


def applied(live: Any, wanted: dict[str, Any], manager: str, force: bool = True, now: str = "1") -> dict[str, Any]:
    resource, kind = (CONFIGMAPS, CONFIG_MAP) if wanted["kind"] == "ConfigMap" else (DEPLOYMENTS, DEPLOYMENT)
    writer = Writer(manager, wanted["apiVersion"], f"2026-01-01T00:00:0{now}Z")
    return apply(copy.deepcopy(live), copy.deepcopy(wanted), resource, kind, writer, force=force)


@given(containers, containers, st.integers(0, 2), st.integers(0, 2))
def test_the_last_to_force_has_its_will(first: dict[str, str], second: dict[str, str], before: int, after: int) -> None:
    live = applied(applied(None, deployment(first, before), "a"), deployment(second, after), "b")
    found = {c["name"]: c["image"] for c in live["spec"]["template"]["spec"]["containers"]}
    assert found == {**first, **second}
    assert live["spec"]["replicas"] == after


@given(containers, st.integers(0, 2))
def test_applying_again_changes_nothing(images: dict[str, str], replicas: int) -> None:
    live = applied(None, deployment(images, replicas), "a")
    again = applied(live, deployment(images, replicas), "a", force=False, now="2")
    assert again == live  # times too


@given(data, data)
def test_a_manager_alone_gets_exactly_what_it_applies(first: dict[str, str], second: dict[str, str]) -> None:
    live = applied(applied(None, config_map(first), "a"), config_map(second), "a", force=False)
    assert live.get("data") or second == {}


@given(data, data, data)
def test_what_another_applied_is_kept(mine: dict[str, str], theirs: dict[str, str], later: dict[str, str]) -> None:
    live = applied(applied(None, config_map(mine), "a"), config_map(theirs), "b")
    live = applied(live, config_map(later), "a")
    assert live.get("data") or {**theirs, **later} == {}


@given(st.lists(st.tuples(st.sampled_from("abcd"), data), max_size=5))
def test_every_field_of_data_has_an_owner_and_every_owner_a_field(writes: list[tuple[str, dict[str, str]]]) -> None:
    live: Any = config_map({"start": "0"})
    managed_fields.record_update(None, live, CONFIG_MAP, Writer("start", "v1", "2026-01-01T00:00:00Z"))
    for manager, wanted in writes:
        live = applied(live, config_map(wanted), manager)
    owned = set()
    for owner in managed_fields.decode(live["metadata"].get("managedFields")).values():
        owned |= {path for path in owner.fields.paths() if path[0] == "f:data" and len(path) == 2}
    assert owned == {("f:data", f"f:{key}") for key in live.get("data") or ()}


def test_updaters_are_bounded() -> None:
    live = config_map({"k0": "0"})
    managed_fields.record_update(None, live, CONFIG_MAP, Writer("m0", "v1", "2026-01-01T00:00:00Z"))
    for number in range(1, 30):
        new = copy.deepcopy(live)
        new["data"][f"k{number}"] = "x"
        managed_fields.record_update(
            live, new, CONFIG_MAP, Writer(f"m{number}", "v1", f"2026-01-01T00:00:{number:02}Z")
        )
        live = new
    entries = live["metadata"]["managedFields"]
    assert len(entries) == UPDATE_MANAGERS_MAX
    assert managed_fields.ANCIENT in {entry["manager"] for entry in entries}
    assert "m29" in {entry["manager"] for entry in entries}


def test_only_times_differ_is_no_change() -> None:
    old = config_map({"a": "1"})
    managed_fields.record_update(None, old, CONFIG_MAP, Writer("m", "v1", "2026-01-01T00:00:00Z"))
    new = copy.deepcopy(old)
    new["metadata"]["managedFields"][0]["time"] = "2026-01-01T00:00:09Z"
    managed_fields.keep_times_if_unchanged(new, old)
    assert new == old


values = st.dictionaries(names, st.dictionaries(names, st.sampled_from("12"), max_size=2), max_size=2)


@given(containers, containers)
def test_compare_is_symmetric(left: dict[str, str], right: dict[str, str]) -> None:
    there = structured.compare(deployment(left, 1), deployment(right, 1), DEPLOYMENT)
    back = structured.compare(deployment(right, 1), deployment(left, 1), DEPLOYMENT)
    assert there.added == back.removed and there.removed == back.added and there.modified == back.modified


@given(containers)
def test_nothing_differs_from_itself(images: dict[str, str]) -> None:
    found = structured.compare(deployment(images, 1), deployment(images, 1), DEPLOYMENT)
    assert not found.added and not found.removed and not found.modified


def test_a_value_without_a_type_may_become_a_list() -> None:
    kind = compiled.type_of(compiled.compiled({"type": "object", "x-kubernetes-preserve-unknown-fields": True}), "Toy")
    found = structured.compare({"goes": {"a": 1, "b": 2}}, {"goes": [1]}, kind)
    assert found.modified.has(("f:goes",))
    assert found.removed.has(("f:goes", "f:a"))
    back = structured.compare({"goes": [1]}, {"goes": {"a": 1}}, kind)
    assert back.added.has(("f:goes", "f:a"))


def test_an_object_that_was_stored_past_apply_may_not_be_told_apart() -> None:
    """A service account's secrets are keyed by name, and a plain write may leave that out."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "n"}}
    kind = schema.type_of(SERVICEACCOUNTS)
    assert kind is not None
    writer = Writer("a", "v1", "2026-01-01T00:00:00Z")
    with pytest.raises(ApiError) as refused:
        apply({**account, "secrets": [{"namespace": "n"}]}, account, SERVICEACCOUNTS, kind, writer)
    why = "associative list with keys has an element that omits all key fields"
    assert refused.value.message.startswith(
        f"failed to create typed live object (n/x; /v1, Kind=ServiceAccount): .secrets: element 0: {why}"
    )


def test_data_beyond_ascii_is_no_base64() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "n"}, "data": {"a": "xé"}}
    kind = schema.type_of(SECRETS)
    assert kind is not None
    with pytest.raises(ApiError, match="illegal base64 data at input byte 1"):
        apply(None, secret, SECRETS, kind, Writer("a", "v1", "2026-01-01T00:00:00Z"))
