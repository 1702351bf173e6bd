"""Encryption at rest: values of chosen resources are encrypted before they reach the store, decrypted on the way back.

`Encryption` reads an EncryptionConfiguration: for each resource a list of providers, of which the first encrypts and
all are tried to decrypt, by the prefix that a value carries (`k8s:enc:aesgcm:v1:KEY:`), so keys can be rotated. The
format is kube-apiserver's. `EncryptedStore` is a Store around another. Errors: ConfigurationError, which names the
field; StoreFailed for a value that no key opens.
Source: Tasks, "Encrypting Confidential Data at Rest"; k8s.io/apiserver pkg/storage/value.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from orchestrator.store.interface import Cancel, Event, Item, Page, Sink, Store, StoreFailed

PREFIX = b"k8s:enc:"
NONCE_BYTES, BLOCK_BYTES = 12, 16
NAMES_MAX = 100


class ConfigurationError(ValueError):
    """An EncryptionConfiguration that cannot be; the text names the field."""


class Provider(Protocol):
    @property
    def prefix(self) -> bytes: ...

    def seal(self, value: bytes, key: str) -> bytes: ...

    def open(self, value: bytes, key: str) -> bytes: ...


@dataclass(frozen=True)
class AesGcm:
    """Authenticated; the key's place in the store is authenticated with it, so that values cannot be swapped."""

    name: str
    secret: bytes

    @property
    def prefix(self) -> bytes:
        return PREFIX + b"aesgcm:v1:" + self.name.encode() + b":"

    def seal(self, value: bytes, key: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.secret).encrypt(nonce, value, key.encode())

    def open(self, value: bytes, key: str) -> bytes:
        return AESGCM(self.secret).decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], key.encode())


@dataclass(frozen=True)
class AesCbc:
    name: str
    secret: bytes

    @property
    def prefix(self) -> bytes:
        return PREFIX + b"aescbc:v1:" + self.name.encode() + b":"

    def seal(self, value: bytes, key: str) -> bytes:
        start = os.urandom(BLOCK_BYTES)
        padder = PKCS7(BLOCK_BYTES * 8).padder()
        encryptor = Cipher(algorithms.AES(self.secret), modes.CBC(start)).encryptor()
        return start + encryptor.update(padder.update(value) + padder.finalize()) + encryptor.finalize()

    def open(self, value: bytes, key: str) -> bytes:
        decryptor = Cipher(algorithms.AES(self.secret), modes.CBC(value[:BLOCK_BYTES])).decryptor()
        unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
        padded = decryptor.update(value[BLOCK_BYTES:]) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()


class Identity:
    """Values as they are."""

    prefix = b""

    def seal(self, value: bytes, key: str) -> bytes:
        return value

    def open(self, value: bytes, key: str) -> bytes:
        return value


_CIPHERS: dict[str, tuple[Callable[[str, bytes], Provider], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, (16, 24, 32)),
    "aescbc": (AesCbc, (16, 24, 32)),
}


class Encryption:
    """Which providers a key of the store has; `providers` maps group_resources (and `*.*`) to them."""

    def __init__(self, providers: Mapping[str, Sequence[Provider]]) -> None:
        self._providers = dict(providers)

    @classmethod
    def read(cls, path: str | Path) -> Encryption:
        try:
            return cls.parse(yaml.safe_load(Path(path).read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, data: Any) -> Encryption:
        if not isinstance(data, dict) or data.get("kind") != "EncryptionConfiguration":
            raise ConfigurationError("kind: must be EncryptionConfiguration")
        found: dict[str, Sequence[Provider]] = {}
        for index, entry in enumerate(data.get("resources") or ()):
            path = f"resources[{index}]"
            if not entry.get("resources") or not entry.get("providers"):
                raise ConfigurationError(f"{path}: resources and providers must not be empty")
            made: list[Provider] = []
            for place, provider in enumerate(entry["providers"]):
                made += _providers(provider, f"{path}.providers[{place}]")
            for resource in entry["resources"]:
                found.setdefault(resource.removesuffix("."), made)  # the first that names a resource counts
        if not found:
            raise ConfigurationError("resources: must not be empty")
        return cls(found)

    def of(self, key: str) -> Sequence[Provider]:
        resource = key.partition("/")[0]
        group = resource.partition(".")[2]
        for name in (resource, f"*.{group}", "*.*"):
            if name in self._providers:
                return self._providers[name]
        return ()

    def seal(self, key: str, value: bytes) -> bytes:
        providers = self.of(key)
        return providers[0].prefix + providers[0].seal(value, key) if providers else value

    def open(self, key: str, value: bytes) -> bytes:
        """Errors: StoreFailed."""
        if not value.startswith(PREFIX):
            return value
        for provider in self.of(key):
            if provider.prefix and value.startswith(provider.prefix):
                try:
                    return provider.open(value[len(provider.prefix) :], key)
                except (InvalidTag, ValueError):
                    continue  # another key of the same name
        shown = value[:NAMES_MAX].rpartition(b":")[0].decode(errors="replace")
        raise StoreFailed(f"{key}: no key of the encryption configuration opens what {shown} sealed")


def _providers(found: Any, path: str) -> list[Provider]:
    if not isinstance(found, dict) or len(found) != 1:
        raise ConfigurationError(f"{path}: must be exactly one of {', '.join(sorted(_CIPHERS))} and identity")
    name, settings = next(iter(found.items()))
    if name == "identity":
        return [Identity()]
    if name not in _CIPHERS:
        known = ", ".join(sorted(_CIPHERS))
        raise ConfigurationError(f"{path}.{name}: is not supported by this server; it has {known} and identity")
    make, sizes = _CIPHERS[name]
    made = []
    for index, key in enumerate((settings or {}).get("keys") or ()):
        place = f"{path}.{name}.keys[{index}]"
        if not key.get("name") or ":" in key["name"]:
            raise ConfigurationError(f"{place}.name: must not be empty, and have no colon")
        try:
            secret = base64.b64decode(key.get("secret") or "", validate=True)
        except binascii.Error as error:
            raise ConfigurationError(f"{place}.secret: must be base64: {error}") from error
        if len(secret) not in sizes:
            raise ConfigurationError(f"{place}.secret: has {len(secret)} bytes, must have one of {sizes}")
        made.append(make(key["name"], secret))
    if not made:
        raise ConfigurationError(f"{path}.{name}.keys: must not be empty")
    return made


class EncryptedStore:
    """A Store whose values are sealed in the one beneath."""

    def __init__(self, store: Store, encryption: Encryption) -> None:
        self._store, self._encryption = store, encryption

    @property
    def revision(self) -> int:
        return self._store.revision

    @property
    def compacted(self) -> int:
        return self._store.compacted

    @property
    def failure(self) -> str | None:
        return self._store.failure

    @property
    def is_shared(self) -> bool:
        return self._store.is_shared

    async def latest_revision(self) -> int:
        return await self._store.latest_revision()

    async def get(self, key: str) -> Item | None:
        found = await self._store.get(key)
        return self._item(found) if found is not None else None

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        page = await self._store.range(prefix, revision=revision, after=after, limit=limit)
        return Page([self._item(item) for item in page.items], page.revision, page.remaining)

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        return [self._event(event) for event in await self._store.history(prefix, after=after, limit=limit)]

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int:
        return await self._store.create(key, self._encryption.seal(key, value), ttl_s=ttl_s)

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int:
        return await self._store.update(key, self._encryption.seal(key, value), expected=expected, ttl_s=ttl_s)

    async def delete(self, key: str, *, expected: int) -> int:
        return await self._store.delete(key, expected=expected)

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        return await self._store.watch(
            prefix, after=after, sink=lambda events: sink([self._event(event) for event in events])
        )

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def close(self) -> None:
        await self._store.close()

    def _item(self, item: Item) -> Item:
        return replace(item, value=self._encryption.open(item.key, item.value))

    def _event(self, event: Event) -> Event:
        if not (self._encryption.of(event.key) or (event.value or b"").startswith(PREFIX)):
            return event
        value, before = event.value, event.previous_value
        return replace(
            event,
            value=self._encryption.open(event.key, value) if value is not None else None,
            previous_value=self._encryption.open(event.key, before) if before is not None else None,
        )
