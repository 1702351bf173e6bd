"""The provider `kms` (v2): values are sealed with data keys that a key management service guards.

A seed is made at random and given to the service to encrypt. Each value is sealed by AES-GCM with a key of its own that
HKDF expands from the seed and 32 random bytes, and stands in the store beside the encrypted seed (`EncryptedObject`):
so one seed does for any number of values, and the service is asked when the seed is made, not at each write. When the
service's Status names another key (rotation), a new seed is made. Seeds seen in stored values are decrypted by the
service once, and kept.

                     Status is well: every POSITIVE_S, and the seed may be written with for WRITE_MAX_S more
    probe ──────────
                     it is not: every NEGATIVE_S; reads go on, writes until the seed's time is over

Errors: NotSealed where no seed may be written with; UnknownDataKey where `learn` has to ask the service first, which
raises GrpcError or NotOpened.
Source: KEP-3299; k8s.io/apiserver encrypt/envelope/kmsv2, server/options/encryptionconfig.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from google.protobuf.message import DecodeError
from msgspec import Struct, field

from orchestrator.api.clock import Clock
from orchestrator.api.kinds import formats
from orchestrator.store.encryption.ciphers import PREFIX, NotOpened, gcm_open, gcm_seal
from orchestrator.store.encryption.grpc_call import GrpcError
from orchestrator.store.encryption.kms_messages import EncryptedObject
from orchestrator.store.encryption.kms_service import Guarded, KeyService, Status
from orchestrator.store.interface import NotSealed

log = logging.getLogger(__name__)

POSITIVE_S, NEGATIVE_S = 60.0, 10.0
WRITE_MAX_S = 180.0
ANSWER_KEPT_WELL_S, ANSWER_KEPT_ILL_S = 20.0, 3.0  # of a health check
CACHE_S = 24 * 3600.0
VERSIONS = ("v2", "v2beta1")
KEY_ID_BYTES_MAX = SOURCE_BYTES_MAX = 1 << 10
ANNOTATIONS_BYTES_MAX = 32 << 10
SEED_BYTES = INFO_BYTES = KEY_BYTES = 32
KEY, SEED = 0, 1  # EncryptedDEKSourceType: what the source, once decrypted, is


class DataKey(Struct, frozen=True):
    """A seed (or key, which is read only) as the service encrypted it: what names it in the cache."""

    source_type: int
    source: bytes
    key_id: str
    annotations: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, source_type: int, source: bytes, key_id: str, annotations: Mapping[str, bytes]) -> DataKey:
        """Errors: NotOpened, for what no service may have answered."""
        if source_type not in (KEY, SEED):
            raise NotOpened(f"unknown encryptedDEKSourceType: {source_type}")
        if not source:
            raise NotOpened("failed to validate encrypted DEK source: encrypted DEK source is empty")
        if len(source) > SOURCE_BYTES_MAX:
            size = f"{len(source)} bytes, which exceeds the max size of {SOURCE_BYTES_MAX}"
            raise NotOpened(f"failed to validate encrypted DEK source: encrypted DEK source is {size}")
        if fault := key_id_fault(key_id):
            raise NotOpened(f"failed to validate key id: {fault}")
        if fault := _annotations_fault(annotations):
            raise NotOpened(f"failed to validate annotations: {fault}")
        return cls(source_type, source, key_id, tuple(sorted(annotations.items())))


class _Current(Struct, frozen=True):
    """What is written with, until `expires_at` at the latest."""

    data_key: DataKey
    seed: bytes
    expires_at: float


class UnknownDataKey(Exception):
    """A value's data key has to be asked for: `await error.provider.learn(error.data_key)`."""

    def __init__(self, provider: KmsProvider, data_key: DataKey) -> None:
        super().__init__("the data key is not known yet")
        self.provider, self.data_key = provider, data_key


class _Answer(Struct):
    """Of the last health check."""

    error: str | None = None
    kept_until: float = 0.0


class KeyUse(Struct):
    """How often the service's keys were used, by (from_storage | to_storage, hash of the key's id), and when last."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    last_used: dict[tuple[str, str], float] = field(default_factory=dict)
    status_seen: dict[str, float] = field(default_factory=dict)
    invalid_from_status: dict[str, int] = field(default_factory=dict)


class KmsProvider:
    """`check` once before it is written to; `probe` goes on until it is cancelled."""

    def __init__(self, name: str, service: KeyService, clock: Clock, new_uid: Callable[[], str]) -> None:
        self.name = name
        self.prefix = PREFIX + b"kms:v2:" + name.encode() + b":"
        self.use = KeyUse()
        self._service = service
        self._clock = clock
        self._new_uid = new_uid
        self._version = ""
        self._current: _Current | None = None
        self._known: OrderedDict[DataKey, tuple[bytes, float]] = OrderedDict()
        self._answer = _Answer()
        self._checking = asyncio.Lock()

    @property
    def timeout_s(self) -> float:
        """Of a call."""
        return self._service.timeout_s

    @property
    def known(self) -> int:
        """Data keys in the cache."""
        return len(self._known)

    # -- values --------------------------------------------------------------------------------------------------------

    def seal(self, value: bytes, key: str) -> bytes:
        current = self._current
        if current is None:
            raise NotSealed("got unexpected nil transformer")
        now = self._clock.now()
        if now > current.expires_at:
            raise NotSealed(
                f"encryptedDEKSource with keyID hash {_quoted_hash(current.data_key.key_id)} expired at "
                f"{_time(current.expires_at)} (current time is {_time(now)})"
            )
        self._keep(current.data_key, current.seed)
        self._used("to_storage", current.data_key.key_id)
        info = os.urandom(INFO_BYTES)
        sealed = info + gcm_seal(_derived(current.seed, info), value, key)
        made = current.data_key
        whole: bytes = EncryptedObject(
            data=sealed,
            key_id=made.key_id,
            source=made.source,
            annotations=dict(made.annotations),
            source_type=made.source_type,
        ).SerializeToString(deterministic=True)
        return whole

    def open(self, value: bytes, key: str) -> bytes:
        try:
            found = EncryptedObject.FromString(value)
        except DecodeError as error:
            raise NotOpened(str(error)) from error
        if not found.data:
            raise NotOpened("encrypted data is empty")
        data_key = DataKey.of(found.source_type, found.source, found.key_id, found.annotations)
        kept = self._known.get(data_key)
        if kept is None:
            raise UnknownDataKey(self, data_key)
        self._used("from_storage", data_key.key_id)
        if data_key.source_type == KEY:
            return gcm_open(kept[0], found.data, key)
        if len(found.data) < INFO_BYTES:
            raise NotOpened("the stored data was shorter than the required size")
        info, sealed = found.data[:INFO_BYTES], found.data[INFO_BYTES:]
        return gcm_open(_derived(kept[0], info), sealed, key)

    async def learn(self, data_key: DataKey) -> None:
        """Errors: GrpcError, NotOpened."""
        guarded = Guarded(data_key.source, data_key.key_id, dict(data_key.annotations))
        secret = await self._service.decrypt(guarded, self._new_uid())
        if data_key.source_type == SEED and len(secret) < SEED_BYTES:
            raise NotOpened(f"invalid seed length {len(secret)} used for key generation")
        if data_key.source_type == KEY and len(secret) not in (16, 24, 32):
            raise NotOpened(f"crypto/aes: invalid key size {len(secret)}")
        self._keep(data_key, secret)

    def _keep(self, data_key: DataKey, secret: bytes) -> None:
        now = self._clock.now()
        self._known[data_key] = (secret, now + CACHE_S)
        self._known.move_to_end(data_key)
        while next(iter(self._known.values()))[1] < now:
            self._known.popitem(last=False)

    def _used(self, direction: str, key_id: str) -> None:
        used = (direction, key_id_hash(key_id))
        self.use.counts[used] = self.use.counts.get(used, 0) + 1
        self.use.last_used[used] = self._clock.now()

    # -- health and rotation -------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Keeps the seed current; where this ends, writes fail after WRITE_MAX_S."""
        error = await self.check()
        while True:
            await asyncio.sleep(POSITIVE_S if error is None else NEGATIVE_S)
            error = await self.check()

    async def check(self) -> str | None:
        """None where the service is well and there is a seed for its present key; an answer is good for a while."""
        async with self._checking:
            if self._clock.now() < self._answer.kept_until:
                return self._answer.error
            error = await self._ask()
            kept_s = ANSWER_KEPT_WELL_S if error is None else ANSWER_KEPT_ILL_S
            self._answer = _Answer(error, self._clock.now() + kept_s)
            if error is not None:
                log.warning("kms plugin failed health check probe", extra={"plugin": self.name, "error": error})
            return error

    async def _ask(self) -> str | None:
        try:
            status = await self._service.status()
        except GrpcError as error:
            section = f"failed to perform status section of the healthz check for KMS Provider {self.name}"
            return f"{section}, error: {error}"
        errors = [error for error in (*self._status_faults(status), await self._rotated(status)) if error]
        if not errors:
            return None
        shown = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
        return f"kmsv2 Provider {self.name} is not healthy, error: {shown}"

    def _status_faults(self, status: Status) -> list[str]:
        found = []
        if status.healthz != "ok":
            found.append(f"got unexpected healthz status: {status.healthz}")
        if status.version not in VERSIONS:
            found.append(f"expected KMSv2 API version v2, got {status.version}")
        else:
            self._version = self._version or status.version
            if self._version != status.version:
                words = "KMSv2 API version should not change after the initial status response version"
                found.append(f"{words} {self._version}, got {status.version}")
        return found

    async def _rotated(self, status: Status) -> str | None:
        """A seed for the key that the status names; the present one goes on where it is that key's already."""
        if fault := key_id_fault(status.key_id):
            code = "too_long" if status.key_id else "empty"
            self.use.invalid_from_status[code] = self.use.invalid_from_status.get(code, 0) + 1
            return f"got invalid KMSv2 KeyID hash {_quoted_hash(status.key_id)}: {fault}"
        self.use.status_seen[key_id_hash(status.key_id)] = self._clock.now()
        expires_at = self._clock.now() + WRITE_MAX_S  # counted from before the call: it is an upper bound
        current = self._current
        if current is not None and current.data_key.key_id == status.key_id:
            self._current = _Current(current.data_key, current.seed, expires_at)
            return None
        uid, seed, made, failure = self._new_uid(), os.urandom(SEED_BYTES), None, ""
        try:
            answer = await self._service.encrypt(seed, uid)
            made = DataKey.of(SEED, answer.ciphertext, answer.key_id, answer.annotations)
        except GrpcError as error:
            failure = f"failed to encrypt DEK, error: {error}"
        except NotOpened as error:
            failure = str(error)
        if made is not None and made.key_id == status.key_id:
            self._current = _Current(made, seed, expires_at)
            return None
        return (
            f'failed to rotate DEK uid="{uid}", errGen={failure or "<nil>"}, '
            f"statusKeyIDHash={_quoted_hash(status.key_id)}, "
            f"encryptKeyIDHash={_quoted_hash(made.key_id if made else '')}, "
            f"stateKeyIDHash={_quoted_hash(current.data_key.key_id if current else '')}"
        )


def key_id_hash(key_id: str) -> str:
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}" if key_id else ""


def _quoted_hash(key_id: str) -> str:
    return f'"{key_id_hash(key_id)}"'


def key_id_fault(key_id: str) -> str:
    if not key_id:
        return "keyID is empty"
    size = len(key_id.encode())
    return f"keyID is {size} bytes, which exceeds the max size of {KEY_ID_BYTES_MAX}" if size > KEY_ID_BYTES_MAX else ""


def _annotations_fault(annotations: Mapping[str, bytes]) -> str:
    for name in annotations:
        if complaints := formats.dns_subdomain(name):
            return f'annotations: Invalid value: "{name}": {complaints[0]}'
        if "." not in name:
            return (
                f'annotations: Invalid value: "{name}": should be a domain with at least two segments separated by dots'
            )
    size = sum(len(name.encode()) + len(value) for name, value in annotations.items())
    if size > ANNOTATIONS_BYTES_MAX:
        return f"total size of annotations is {size}, which exceeds the max size of {ANNOTATIONS_BYTES_MAX}"
    return ""


def _derived(seed: bytes, info: bytes) -> bytes:
    """10 µs; upstream keeps what it derived by the value's place, since there a list opens each value each time."""
    return HKDFExpand(SHA256(), KEY_BYTES, info).derive(seed)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
