"""Sealing by a key management service, which is a gRPC server on a socket: seeds, rotation, expiry, what is refused."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.store.encryption.ciphers import NotOpened
from orchestrator.store.encryption.configuration import Encryption, Surroundings
from orchestrator.store.encryption.grpc_call import GrpcError, call
from orchestrator.store.encryption.kms import KmsProvider, UnknownDataKey
from orchestrator.store.encryption.kms_messages import EncryptedObject
from orchestrator.store.encryption.sealedstore import EncryptedStore
from orchestrator.store.interface import NotSealed, StoreFailed
from orchestrator.store.memory import MemoryStore
from tests.kms_plugin import ANNOTATION, KmsPlugin
from tests.unit.store.test_encryption import VECTORS, configuration

PREFIX = b"k8s:enc:kms:v2:plug:"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[KmsPlugin]:
    with KmsPlugin(tmp_path / "kms.sock") as started:
        yield started


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def encryption(tmp_path: Path, clock: FixedClock) -> Encryption:
    return made(tmp_path, clock)


def made(folder: Path, clock: FixedClock, timeout: str = "3s") -> Encryption:
    kms = {"apiVersion": "v2", "name": "plug", "endpoint": f"unix://{folder}/kms.sock", "timeout": timeout}
    around = Surroundings(lambda: str(uuid.uuid4()), clock)
    return Encryption.parse(configuration({"kms": kms}, {"identity": {}}, resources=("*.*",)), around)


def provider(encryption: Encryption) -> KmsProvider:
    return encryption.plugins[0]


async def test_one_seed_seals_many_values(plugin: KmsPlugin, encryption: Encryption) -> None:
    beneath = MemoryStore()
    store = EncryptedStore(beneath, encryption)
    assert await provider(encryption).check() is None
    for name in ("a", "b", "c"):
        await store.create(f"secrets/default/{name}", name.encode() * 100)
    raw = [item.value for item in (await beneath.range("")).items]
    assert all(value.startswith(PREFIX) for value in raw)
    objects = [EncryptedObject.FromString(value.removeprefix(PREFIX)) for value in raw]
    assert len({found.source for found in objects}) == 1, "the encrypted seed"
    assert len({found.data[:32] for found in objects}) == 3, "what each value's key is derived from"
    assert {(found.key_id, found.source_type, found.annotations[ANNOTATION]) for found in objects} == {
        ("1", 1, b"local")
    }
    assert [item.value for item in (await store.range("")).items] == [b"a" * 100, b"b" * 100, b"c" * 100]
    assert plugin.calls == ["Status", "Encrypt"], "the server knows its own seed"


async def test_another_server_asks_once_for_a_seed(plugin: KmsPlugin, tmp_path: Path, clock: FixedClock) -> None:
    beneath = MemoryStore()
    first = made(tmp_path, clock)
    await provider(first).check()
    store = EncryptedStore(beneath, first)
    for name in ("a", "b"):
        await store.create(f"secrets/default/{name}", name.encode())
    second = made(tmp_path, clock)
    await provider(second).check()
    plugin.calls.clear()
    assert [item.value for item in (await EncryptedStore(beneath, second).range("")).items] == [b"a", b"b"]
    assert plugin.calls == ["Decrypt"]


async def test_a_watch_brings_in_order_what_another_server_sealed(
    plugin: KmsPlugin, tmp_path: Path, clock: FixedClock
) -> None:
    beneath = MemoryStore()
    stores = [EncryptedStore(beneath, made(tmp_path, clock)) for _ in range(2)]
    for store in stores:
        await provider(store.encryption).check()
    seen: list[bytes | None] = []
    await stores[1].watch("", after=1, sink=lambda events: seen.extend(event.value for event in events))
    plugin.refuses = "not now"
    await stores[0].create("secrets/default/a", b"theirs")
    ours = asyncio.create_task(stores[1].create("secrets/default/b", b"ours"))
    async with asyncio.timeout(60):
        while "Decrypt" not in plugin.calls or stores[1].failure is None:
            await asyncio.sleep(0.01)
    assert (seen, ours.done()) == ([], False)
    assert "code = FailedPrecondition desc = not now" in (stores[1].failure or "")
    plugin.refuses = ""
    assert await asyncio.wait_for(ours, 60) == 3
    assert (seen, stores[1].failure) == ([b"theirs", b"ours"], None)


async def test_another_key_id_makes_another_seed(plugin: KmsPlugin, encryption: Encryption, clock: FixedClock) -> None:
    kms = provider(encryption)
    await kms.check()
    old = kms.seal(b"old", "secrets/default/a")
    plugin.key_id = "2"
    clock.advance(60)
    assert await kms.check() is None
    new = kms.seal(b"new", "secrets/default/b")
    assert [EncryptedObject.FromString(value).key_id for value in (old, new)] == ["1", "2"]
    assert kms.open(old, "secrets/default/a") == b"old"


async def test_writes_go_on_for_three_minutes_without_the_service(
    plugin: KmsPlugin, encryption: Encryption, clock: FixedClock
) -> None:
    kms = provider(encryption)
    await kms.check()
    sealed = kms.seal(b"1", "secrets/default/a")
    plugin.healthz = "out of order"
    clock.advance(170)
    error = await kms.check()
    assert error == "kmsv2 Provider plug is not healthy, error: got unexpected healthz status: out of order"
    clock.advance(170)
    kms.seal(b"1", "secrets/default/a")  # its Status answered, and named the key: the seed goes on
    clock.advance(11)
    with pytest.raises(NotSealed, match=r'encryptedDEKSource with keyID hash "sha256:.*" expired at 20'):
        kms.seal(b"1", "secrets/default/a")
    assert kms.open(sealed, "secrets/default/a") == b"1", "reads go on"


async def test_an_answer_of_health_is_kept_for_a_while(
    plugin: KmsPlugin, encryption: Encryption, clock: FixedClock
) -> None:
    kms = provider(encryption)
    assert [await kms.check() for _ in range(3)] == [None] * 3
    assert plugin.calls.count("Status") == 1
    clock.advance(20)
    plugin.version = "v3"
    error = await kms.check()
    assert error is not None
    assert "expected KMSv2 API version v2, got v3" in error
    plugin.version = "v2"
    assert await kms.check() == error, "kept for 3 s"
    clock.advance(3)
    assert await kms.check() is None
    clock.advance(20)
    plugin.version = "v2beta1"
    assert "should not change after the initial status response version v2" in (await kms.check() or "")


@pytest.mark.parametrize(
    ("key_id", "words"),
    [("", 'got invalid KMSv2 KeyID hash "": keyID is empty'), ("k" * 1025, "keyID is 1025 bytes, which exceeds")],
)
async def test_a_key_id_has_a_size(plugin: KmsPlugin, encryption: Encryption, key_id: str, words: str) -> None:
    plugin.key_id = key_id
    assert words in (await provider(encryption).check() or "")
    with pytest.raises(NotSealed):
        encryption.seal("secrets/default/a", b"1")


async def test_a_service_that_encrypts_with_another_key_than_it_names_is_not_used(
    plugin: KmsPlugin, encryption: Encryption
) -> None:
    plugin.encrypts_with = "other"
    assert "failed to rotate DEK uid=" in (await provider(encryption).check() or "")
    with pytest.raises(NotSealed):
        encryption.seal("secrets/default/a", b"1")


async def test_a_service_that_refuses_says_why(plugin: KmsPlugin, tmp_path: Path, clock: FixedClock) -> None:
    first, second = made(tmp_path, clock), made(tmp_path, clock)
    await provider(first).check()
    beneath = MemoryStore()
    await EncryptedStore(beneath, first).create("secrets/default/a", b"1")
    plugin.refuses = "the key is gone: ünd"
    with pytest.raises(StoreFailed, match=r"failed to decrypt DEK, error: rpc error: .*FailedPrecondition.* ünd"):
        await EncryptedStore(beneath, second).get("secrets/default/a")


async def test_a_value_is_authenticated_with_its_place(plugin: KmsPlugin, encryption: Encryption) -> None:
    kms = provider(encryption)
    await kms.check()
    sealed = kms.seal(b"1", "secrets/default/a")
    with pytest.raises(NotOpened):
        kms.open(sealed, "secrets/default/b")
    with pytest.raises(NotOpened):
        kms.open(b"\xff\xff", "secrets/default/a")
    with pytest.raises(NotOpened, match="encrypted data is empty"):
        kms.open(b"", "secrets/default/a")


async def test_what_kube_apiserver_stored_is_opened(plugin: KmsPlugin, encryption: Encryption) -> None:
    """Written by kube-apiserver v1.36.3 with this plugin into its etcd."""
    found = VECTORS["kms"]
    value = base64.b64decode(found["value"])
    with pytest.raises(UnknownDataKey) as unknown:
        encryption.open(found["key"], value)
    await unknown.value.provider.learn(unknown.value.data_key)
    opened = encryption.open(found["key"], value)
    assert opened.startswith(b"k8s\0")
    assert b"vector" in opened


async def test_a_service_is_waited_for(tmp_path: Path) -> None:
    calling = asyncio.create_task(call(f"{tmp_path}/kms.sock", "/v2.KeyManagementService/Status", b"", 60))
    await asyncio.sleep(0.01)
    with KmsPlugin(tmp_path / "kms.sock"):
        assert await calling == b"\x0a\x02v2\x12\x02ok\x1a\x011"


async def test_a_service_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(GrpcError, match="code = DeadlineExceeded"):
        await call(f"{tmp_path}/kms.sock", "/v2.KeyManagementService/Status", b"", 0.05)


async def test_a_method_that_is_not_there_is_unimplemented(plugin: KmsPlugin, tmp_path: Path) -> None:
    with pytest.raises(GrpcError, match="code = Unimplemented desc = Method not found"):
        await call(f"{tmp_path}/kms.sock", "/v2.KeyManagementService/Other", b"x" * 40_000, 60)


async def test_what_is_no_grpc_is_unavailable(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(answer, f"{tmp_path}/kms.sock"):
        with pytest.raises(GrpcError, match="code = Unavailable"):
            await call(f"{tmp_path}/kms.sock", "/v2.KeyManagementService/Status", b"", 60)
