"""Encryption at rest: what the store beneath holds, rotation of keys, what cannot be opened, wrong configurations."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.encryption.configuration import ConfigurationError, Encryption, Surroundings
from orchestrator.store.encryption.sealedstore import EncryptedStore
from orchestrator.store.interface import Event, Store, StoreFailed
from orchestrator.store.memory import MemoryStore
from tests.unit.store import test_store_contract as contract

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()
AROUND = Surroundings(lambda: str(uuid.uuid4()))


def configuration(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{"resources": list(resources), "providers": list(providers)}],
    }


def parsed(data: dict[str, Any]) -> Encryption:
    return Encryption.parse(data, AROUND)


def sealed(cipher: str, *keys: tuple[str, str]) -> dict[str, Any]:
    return {cipher: {"keys": [{"name": name, "secret": secret} for name, secret in keys]}}


@pytest.mark.parametrize("cipher", ["aesgcm", "aescbc", "secretbox"])
async def test_values_are_sealed_and_come_back(cipher: str) -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, parsed(configuration(sealed(cipher, ("k1", KEY)))))
    seen: list[Event] = []
    await store.watch("", after=1, sink=seen.extend)
    revision = await store.create("secrets/default/a", b"password")
    await store.update("secrets/default/a", b"changed", expected=revision)
    await store.create("configmaps/default/a", b"open")
    raw = await beneath.get("secrets/default/a")
    assert raw is not None
    assert raw.value.startswith(f"k8s:enc:{cipher}:v1:k1:".encode())
    assert b"changed" not in raw.value
    item = await store.get("secrets/default/a")
    assert item is not None
    assert item.value == b"changed"
    assert [event.value for event in seen] == [b"password", b"changed", b"open"]
    assert [event.previous_value for event in await store.history("secrets/", after=1, limit=9)] == [None, b"password"]
    assert [item.value for item in (await store.range("")).items] == [b"open", b"changed"]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    every = configuration(sealed("aesgcm", ("k", KEY)), resources=("*.*",))
    opened = EncryptedStore(MemoryStore(), parsed(every))
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "case",
    [
        contract.test_one_counter_orders_all_writes,
        contract.test_who_lost_a_race_finds_the_winner_in_the_watch,
        contract.test_a_write_is_a_compare_and_swap,
        contract.test_of_two_racing_writes_one_wins,
        contract.test_a_watch_joins_history_and_present_without_a_gap,
        contract.test_a_write_is_delivered_before_it_is_acknowledged,
        contract.test_any_two_watches_see_the_same_order,
    ],
)
async def test_the_promises_of_a_store_hold(case: Callable[[Store], Any], store: Store) -> None:
    await case(store)


async def test_keys_are_rotated() -> None:
    beneath = MemoryStore()
    old = EncryptedStore(beneath, parsed(configuration({"identity": {}})))
    await old.create("secrets/default/plain", b"1")
    first = EncryptedStore(beneath, parsed(configuration(sealed("aescbc", ("k1", KEY)), {"identity": {}})))
    await first.create("secrets/default/old", b"2")
    both = configuration(sealed("aesgcm", ("k2", OTHER)), sealed("aescbc", ("k1", KEY)), {"identity": {}})
    second = EncryptedStore(beneath, parsed(both))
    assert [item.value for item in (await second.range("")).items] == [b"2", b"1"]
    await second.create("secrets/default/new", b"3")
    with pytest.raises(StoreFailed, match="secrets/default/new: no matching prefix found"):
        await first.get("secrets/default/new")


async def test_another_secret_of_the_same_name_is_tried_too() -> None:
    beneath = MemoryStore()
    first = EncryptedStore(beneath, parsed(configuration(sealed("secretbox", ("k", KEY)))))
    await first.create("secrets/default/a", b"1")
    both = configuration(sealed("secretbox", ("k", OTHER)), sealed("secretbox", ("k", KEY)))
    item = await EncryptedStore(beneath, parsed(both)).get("secrets/default/a")
    assert item is not None
    assert item.value == b"1"


async def test_a_plain_value_is_not_believed_where_identity_is_not_configured() -> None:
    beneath = MemoryStore()
    await beneath.create("secrets/default/a", b"plain")
    with pytest.raises(StoreFailed, match="secrets/default/a: no matching prefix found"):
        await EncryptedStore(beneath, parsed(configuration(sealed("aesgcm", ("k", KEY))))).get("secrets/default/a")


async def test_a_value_belongs_to_its_key() -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, parsed(configuration(sealed("aesgcm", ("k1", KEY)))))
    await store.create("secrets/default/a", b"1")
    raw = await beneath.get("secrets/default/a")
    assert raw is not None
    await beneath.create("secrets/default/b", raw.value)
    with pytest.raises(StoreFailed, match="message authentication failed"):
        await store.get("secrets/default/b")


async def test_what_another_server_sealed_with_a_newer_key_waits_until_the_configuration_has_it() -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, parsed(configuration(sealed("aesgcm", ("old", KEY)))))
    newer = parsed(configuration(sealed("aesgcm", ("new", OTHER)), sealed("aesgcm", ("old", KEY))))
    seen: list[Event] = []
    await store.watch("", after=1, sink=seen.extend)
    await EncryptedStore(beneath, newer).create("secrets/default/a", b"theirs")
    writing = asyncio.create_task(store.create("configmaps/default/b", b"ours"))
    await asyncio.sleep(0.01)
    assert (seen, store.revision, store.failure) == ([], 1, "secrets/default/a: no matching prefix found")
    assert not writing.done(), "it is not delivered yet"
    store.encryption = newer
    assert await asyncio.wait_for(writing, 60) == 3
    assert [(event.key, event.value) for event in seen] == [
        ("secrets/default/a", b"theirs"),
        ("configmaps/default/b", b"ours"),
    ]
    assert (store.revision, store.failure) == (3, None)


VECTORS = json.loads((Path(__file__).parent / "encryption_vectors.json").read_text())


@pytest.mark.parametrize("cipher", ["aesgcm", "aescbc", "secretbox"])
def test_what_kube_apiserver_stored_is_opened(cipher: str) -> None:
    """Written by kube-apiserver v1.36.3 into its etcd."""
    names = {"aesgcm": "gcm", "aescbc": "cbc", "secretbox": "box"}
    secret = base64.b64encode(((f"{names[cipher]}-key-" * 4)[:31] + "1").encode()).decode()
    found = VECTORS[cipher]
    one = parsed(configuration(sealed(cipher, (f"{names[cipher]}1", secret)), resources=("*.*",)))
    opened = one.open(found["key"], base64.b64decode(found["value"]))
    assert opened.startswith(b"k8s\0")
    assert b"vector" in opened


KMS = {"apiVersion": "v2", "name": "p", "endpoint": "unix:///run/kms.sock"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param({"kind": "Other"}, 'no kind "Other" is registered for version ""', id="another-kind"),
        pytest.param({**configuration(), "resources": []}, "resources: Required value: at least one", id="nothing"),
        pytest.param(
            configuration(sealed("aesgcm", ("k", "AAAA"))),
            'resources[0].providers[0].aesgcm.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected '
            "length, got 3, expected one of [16 24 32]",
            id="a-short-key",
        ),
        pytest.param(
            configuration(sealed("secretbox", ("k", base64.b64encode(b"k" * 16).decode()))),
            "got 16, expected one of [32]",
            id="a-short-key-of-secretbox",
        ),
        pytest.param(configuration(sealed("aesgcm", ("k", "%"))), "secrets must be base64 encoded", id="no-base64"),
        pytest.param(
            configuration(sealed("aesgcm")),
            "resources[0].providers[0].aesgcm.keys: Required value: at least one keys is required",
            id="no-keys",
        ),
        pytest.param(
            configuration({"aesgcm": {"keys": [{"secret": KEY}]}}),
            "keys[0].name: Required value: name is a mandatory field for a key",
            id="no-name",
        ),
        pytest.param(configuration({}), "provider does not contain any of the expected", id="no-provider"),
        pytest.param(
            configuration({"identity": {}, **sealed("aesgcm", ("k", KEY))}),
            "more than one provider specified in a single element",
            id="two-in-one",
        ),
        pytest.param(configuration({"kms3": {}}), "unknown field", id="unknown-provider"),
        pytest.param(
            configuration({"kms": {**KMS, "apiVersion": "v1"}}),
            "KMSv1 is deprecated and will only receive",
            id="kms-v1",
        ),
        pytest.param(
            configuration({"kms": {key: value for key, value in KMS.items() if key != "apiVersion"}}),
            "KMSv1 is deprecated and will only receive",
            id="v1-is-the-default",
        ),
        pytest.param(configuration({"kms": {**KMS, "name": "a:b"}}), "must not contain ':'", id="colon"),
        pytest.param(configuration({"kms": KMS}, {"kms": KMS}), "duplicate KMS provider name p", id="two-of-a-name"),
        pytest.param(
            configuration({"kms": {**KMS, "endpoint": "tcp://h:1"}}),
            'unsupported scheme "tcp" for KMS provider, only unix is supported',
            id="no-unix-socket",
        ),
        pytest.param(configuration({"kms": {**KMS, "timeout": "-1s"}}), "timeout should be a positive", id="timeout"),
        pytest.param(
            configuration({"kms": {**KMS, "cachesize": 1}}), "cachesize is not supported in v2", id="cachesize"
        ),
        pytest.param(
            configuration({"identity": {}}, resources=("secrets", "*.")), "using overlapping resources", id="overlap"
        ),
        pytest.param(
            configuration({"identity": {}}, resources=("secrets", "secrets")),
            "cannot be specified multiple",
            id="twice",
        ),
        pytest.param(configuration({"identity": {}}, resources=("Secrets",)), "capital letters", id="capitals"),
        pytest.param(configuration({"identity": {}}, resources=("*",)), "use '*.' to encrypt all", id="star"),
        pytest.param(
            configuration({"identity": {}}, resources=("pods.*",)), "across groups is not", id="across-groups"
        ),
        pytest.param(
            configuration({"identity": {}}, resources=("events.events.k8s.io",)), "Use 'events' instead", id="events"
        ),
    ],
)
def test_wrong_configurations(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsed(data)
    assert words in str(refused.value)


def test_a_rule_that_an_earlier_one_masks_is_refused() -> None:
    data = configuration({"identity": {}}, resources=("*.apps",))
    data["resources"].append({"resources": ["deployments.apps"], "providers": [{"identity": {}}]})
    with pytest.raises(ConfigurationError, match=r'"deployments\.apps" is masked by earlier rule "\*\.apps"'):
        parsed(data)


@pytest.mark.parametrize(
    ("resources", "key", "is_sealed"),
    [
        (("*.*",), "deployments.apps/default/x", True),
        (("*.*",), "secrets/default/x", True),
        (("*.",), "secrets/default/x", True),
        (("*.",), "deployments.apps/default/x", False),
        (("*.apps",), "deployments.apps/default/x", True),
        (("*.apps",), "jobs.batch/default/x", False),
        (("deployments.apps",), "deployments.apps/default/x", True),
        (("deployments.apps",), "daemonsets.apps/default/x", False),
    ],
)
def test_resources_are_named_alone_by_group_or_all(resources: tuple[str, ...], key: str, is_sealed: bool) -> None:
    found = parsed(configuration(sealed("aesgcm", ("k", KEY)), resources=resources))
    assert found.seal(key, b"1").startswith(b"k8s:enc:") == is_sealed


def test_of_several_rules_the_exact_one_counts() -> None:
    data = configuration({"identity": {}}, resources=("secrets",))
    data["resources"].append({"resources": ["*.*"], "providers": [sealed("aesgcm", ("k", KEY))]})
    found = parsed(data)
    assert found.seal("secrets/default/x", b"1") == b"1"
    assert found.seal("configmaps/default/x", b"1").startswith(b"k8s:enc:")
