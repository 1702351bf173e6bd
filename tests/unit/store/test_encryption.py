"""Encryption at rest: what the store beneath holds, rotation of keys, and what cannot be opened."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from orchestrator.store.encryption import ConfigurationError, EncryptedStore, Encryption
from orchestrator.store.interface import Event, StoreFailed
from orchestrator.store.memory import MemoryStore

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()


def configuration(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{"resources": list(resources), "providers": list(providers)}],
    }


def sealed(cipher: str, *keys: tuple[str, str]) -> dict[str, Any]:
    return {cipher: {"keys": [{"name": name, "secret": secret} for name, secret in keys]}}


@pytest.mark.parametrize("cipher", ["aesgcm", "aescbc"])
async def test_values_are_sealed_and_come_back(cipher: str) -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, Encryption.parse(configuration(sealed(cipher, ("k1", KEY)))))
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


async def test_keys_are_rotated() -> None:
    beneath = MemoryStore()
    old = EncryptedStore(beneath, Encryption.parse(configuration({"identity": {}})))
    await old.create("secrets/default/plain", b"1")
    first = EncryptedStore(beneath, Encryption.parse(configuration(sealed("aescbc", ("k1", KEY)), {"identity": {}})))
    await first.create("secrets/default/old", b"2")
    both = configuration(sealed("aesgcm", ("k2", OTHER)), sealed("aescbc", ("k1", KEY)), {"identity": {}})
    second = EncryptedStore(beneath, Encryption.parse(both))
    assert [item.value for item in (await second.range("")).items] == [b"2", b"1"]
    await second.create("secrets/default/new", b"3")
    with pytest.raises(StoreFailed, match="secrets/default/new: no key of the encryption configuration opens"):
        await first.get("secrets/default/new")


async def test_a_value_belongs_to_its_key() -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, Encryption.parse(configuration(sealed("aesgcm", ("k1", KEY)))))
    await store.create("secrets/default/a", b"1")
    raw = await beneath.get("secrets/default/a")
    assert raw is not None
    await beneath.create("secrets/default/b", raw.value)
    with pytest.raises(StoreFailed):
        await store.get("secrets/default/b")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "Other"}, "kind: must be EncryptionConfiguration"),
        (configuration(sealed("aesgcm", ("k", "AAAA"))), r"providers\[0\].aesgcm.keys\[0\].secret: has 3 bytes"),
        (configuration(sealed("aesgcm", ("k", "%"))), "must be base64"),
        (configuration(sealed("aesgcm")), "aesgcm.keys: must not be empty"),
        (configuration({"kms": {}}), r"resources\[0\].providers\[0\].kms: is not supported by this server"),
    ],
)
def test_wrong_configurations(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Encryption.parse(data)


def test_groups_of_resources() -> None:
    every = Encryption.parse(configuration(sealed("aesgcm", ("k", KEY)), resources=("*.apps", "*.*")))
    assert every.of("deployments.apps/default/x")
    assert every.of("secrets/default/x")
