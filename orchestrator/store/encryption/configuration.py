"""EncryptionConfiguration: which providers seal which resources, from a YAML file.

A resource is named as `secrets`, `deployments.apps`, `*.apps` (a group), `*.` (the core group) or `*.*`; the first of
exact name, group and everything that is configured counts. Resources without providers stay as they are.
Errors: ConfigurationError in kube-apiserver's words. Source: API reference, "kube-apiserver Encryption Configuration
(v1)"; k8s.io/apiserver apis/apiserver/validation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import yaml
from msgspec import Struct, field

from orchestrator.api import go_duration
from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.kinds import faults
from orchestrator.api.status import Cause
from orchestrator.store.encryption.ciphers import AesCbc, AesGcm, Identity, NotOpened, Provider, Secretbox
from orchestrator.store.encryption.kms import KmsProvider
from orchestrator.store.encryption.kms_service import KmsPlugin
from orchestrator.store.interface import StoreFailed

API_VERSION = "apiserver.config.k8s.io/v1"
PROVIDERS = ("aesgcm", "aescbc", "secretbox", "identity", "kms")
KMS_TIMEOUT = "3s"
_CIPHERS: dict[str, tuple[Callable[[str, bytes], Provider], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, (16, 24, 32)),
    "aescbc": (AesCbc, (16, 24, 32)),
    "secretbox": (Secretbox, (32,)),
}
_NO_PROVIDER = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
_SEVERAL = "more than one provider specified in a single element, should split into different list elements"
_V1 = (
    "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  "
    "Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature."
)
_OVERLAP = (
    "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed "
    "as they will be masked"
)
_NO_API = ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations")


class ConfigurationError(ValueError):
    """An EncryptionConfiguration that cannot be; the text names the fields."""


class Key(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    secret: str = ""


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = []


class Kms(msgspec.Struct, forbid_unknown_fields=True, rename={"api_version": "apiVersion"}):
    api_version: str = ""
    name: str = ""
    cachesize: int | None = None
    endpoint: str = ""
    timeout: str | None = None


class ProviderEntry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    aesgcm: Keys | None = None
    aescbc: Keys | None = None
    secretbox: Keys | None = None
    identity: dict[str, Any] | None = None
    kms: Kms | None = None


class ResourceEntry(msgspec.Struct, forbid_unknown_fields=True):
    resources: list[str] = []
    providers: list[ProviderEntry] = []


class Document(msgspec.Struct, forbid_unknown_fields=True, rename={"api_version": "apiVersion"}):
    api_version: str = ""
    kind: str = ""
    resources: list[ResourceEntry] = []


def _untold(provider: str, method: str, code: str, took_s: float) -> None:
    """Nobody counts."""


class Surroundings(Struct, frozen=True):
    """What providers take from outside; `told` hears of each call of a key management service: (provider, method, gRPC
    code, seconds)."""

    new_uid: Callable[[], str]
    clock: Clock = field(default_factory=SystemClock)
    told: Callable[[str, str, str, float], None] = _untold


class Encryption:
    """Which providers a key of the store has. `content_hash` is that of the file it was read from."""

    def __init__(self, providers: Mapping[str, Sequence[Provider]], content_hash: str = "") -> None:
        self._providers = dict(providers)
        self.content_hash = content_hash
        every = [one for listed in self._providers.values() for one in listed]
        self.plugins = list(dict.fromkeys(one for one in every if isinstance(one, KmsProvider)))

    @classmethod
    def read(cls, path: str | Path, around: Surroundings) -> Encryption:
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            words = f"error reading encryption provider configuration file {faults.shown(str(path))}"
            raise ConfigurationError(f"error while parsing file: error while loading file: {words}: {error}") from error
        if not text:
            raise ConfigurationError(f"encryption provider configuration file {faults.shown(str(path))} is empty")
        try:
            found = cls.parse(yaml.safe_load(text), around)
        except yaml.YAMLError as error:
            words = f"error decoding encryption provider configuration file {faults.shown(str(path))}"
            raise ConfigurationError(f"error while parsing file: {words}: {error}") from error
        found.content_hash = hash_of(text)
        return found

    @classmethod
    def parse(cls, data: Any, around: Surroundings) -> Encryption:
        document = _document(data)
        if causes := list(_faults(document)):
            texts = [f"{cause.field}: {cause.message}" for cause in causes]
            shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            raise ConfigurationError(f"error while parsing file: {shown}")
        found: dict[str, list[Provider]] = {}
        for entry in document.resources:
            made = [provider for one in entry.providers for provider in _made(one, around)]
            for resource in entry.resources:
                name, group = _group_resource(resource)
                for earlier in (f"*.{group}", "*.*"):
                    if earlier in found:
                        words = f'resource "{_shown(name, group)}" is masked by earlier rule "{earlier}"'
                        raise ConfigurationError(f"error while building transformers: {words}")
                found.setdefault(f"{name}.{group}", []).extend(made)
        return cls(found)

    def of(self, key: str) -> Sequence[Provider]:
        """No providers: the value is as it is."""
        name, group = _group_resource(key.partition("/")[0])
        for place in (f"{name}.{group}", f"*.{group}", "*.*"):
            if place in self._providers:
                return self._providers[place]
        return _UNSEALED

    def seal(self, key: str, value: bytes) -> bytes:
        """Errors: NotSealed."""
        first = self.of(key)[0]
        return first.prefix + first.seal(value, key)

    def open(self, key: str, value: bytes) -> bytes:
        """Errors: StoreFailed; UnknownDataKey, where a service has to be asked first."""
        failure = ""
        for provider in self.of(key):
            if value.startswith(provider.prefix):
                try:
                    return provider.open(value[len(provider.prefix) :], key)
                except NotOpened as error:
                    if provider.prefix:  # else it is not identity's to open, and the next may have the key
                        failure = failure or str(error)
        raise StoreFailed(f"{key}: {failure or 'no matching prefix found'}")


_UNSEALED = (Identity(),)


def hash_of(text: bytes) -> str:
    """Of a file's content, which has keys that need not stay in memory."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _document(data: Any) -> Document:
    try:
        document = msgspec.convert(data, Document)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"error while parsing file: strict decoding error: {error}") from error
    if (document.api_version, document.kind) != (API_VERSION, "EncryptionConfiguration"):
        given = f'no kind "{document.kind}" is registered for version "{document.api_version}"'
        raise ConfigurationError(f"error while parsing file: {given}")
    return document


def _group_resource(text: str) -> tuple[str, str]:
    name, _, group = text.partition(".")
    return name, group


def _shown(name: str, group: str) -> str:
    return f"{name}.{group}" if group or name == "*" else name


def _made(entry: ProviderEntry, around: Surroundings) -> list[Provider]:
    if entry.identity is not None:
        return [Identity()]
    if entry.kms is not None:
        return [_plugin(entry.kms, around)]
    made: list[Provider] = []
    for kind, (make, _) in _CIPHERS.items():
        found: Keys | None = getattr(entry, kind)
        made += [make(key.name, base64.b64decode(key.secret)) for key in found.keys] if found is not None else []
    return made


def _plugin(kms: Kms, around: Surroundings) -> KmsProvider:
    if (kms.api_version or "v1") == "v1":
        raise ConfigurationError(f"error while building transformers: {_V1}")
    name, path = kms.name, unquote(urlsplit(kms.endpoint).path)
    socket = path[1:] if path.startswith("/@") else path
    told = partial(around.told, name)
    return KmsProvider(name, KmsPlugin(socket, _duration_s(kms.timeout), told), around.clock, around.new_uid)


def _duration_s(text: str | None) -> float:
    """As Go writes it: `1m30s`. ValueError where it is none."""
    return go_duration.seconds(text or KMS_TIMEOUT)


# -- validation --------------------------------------------------------------------------------------------------------


def _faults(document: Document) -> Iterator[Cause]:
    if not document.resources:
        yield faults.required("resources", "at least one resources is required")
    names: set[str] = set()
    for index, entry in enumerate(document.resources):
        path = f"resources[{index}].resources"
        if not entry.resources:
            yield faults.required(path, f"at least one {path} is required")
        yield from _overlaps(entry.resources, path)
        for place, resource in enumerate(entry.resources):
            if detail := _resource_fault(resource):
                yield faults.invalid(f"{path}[{place}]", resource, detail)
        path = f"resources[{index}].providers"
        if not entry.providers:
            yield faults.required(path, f"at least one {path} is required")
        for place, provider in enumerate(entry.providers):
            yield from _provider_faults(provider, f"{path}[{place}]", names)


def _overlaps(resources: Sequence[str], path: str) -> Iterator[Cause]:
    parsed = [_group_resource(one) for one in resources]
    if len(set(parsed)) < len(parsed):
        yield faults.invalid(path, list(resources), "the same resource cannot be specified multiple times")
    different = list(dict.fromkeys(parsed))
    wildcards = {group for name, group in different if name == "*"}
    beside = len(different) > 1 and ("*" in wildcards)
    if beside or any(name != "*" and group in wildcards for name, group in different):
        yield faults.invalid(path, list(resources), _OVERLAP)


def _resource_fault(resource: str) -> str:
    name, group = _group_resource(resource)
    if resource.lower() != resource:
        return "resource name should not contain capital letters"
    if resource == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if resource in _NO_API:
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        stored = "'*.events.k8s.io' objects are stored using the 'events' API group in etcd."
        return f"{stored} Use 'events' instead in the config file"
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and name != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _provider_faults(entry: ProviderEntry, path: str, names: set[str]) -> Iterator[Cause]:
    given = [name for name in PROVIDERS if getattr(entry, name) is not None]
    if len(given) != 1:
        shown: dict[str, Any] = {name: {} for name in given}  # a key must not be shown
        yield faults.invalid(path, shown, _SEVERAL if given else _NO_PROVIDER)
    if entry.kms is not None:
        yield from _kms_faults(entry.kms, f"{path}.kms", names)
        names.add(entry.kms.name)
        return
    for kind, (_, sizes) in _CIPHERS.items():
        found: Keys | None = getattr(entry, kind)
        if found is None:
            continue
        if not found.keys:
            yield faults.required(f"{path}.{kind}.keys", "at least one keys is required")
        for index, key in enumerate(found.keys):
            yield from _key_faults(key, f"{path}.{kind}.keys[{index}]", sizes)


def _key_faults(key: Key, path: str, sizes: tuple[int, ...]) -> Iterator[Cause]:
    if not key.name:
        yield faults.required(f"{path}.name", "name is a mandatory field for a key")
    if not key.secret:
        yield faults.required(f"{path}.secret", "secret is a mandatory field for a key")
        return
    try:
        size = len(base64.b64decode(key.secret, validate=True))
    except binascii.Error:
        yield faults.invalid(f"{path}.secret", "REDACTED", "secrets must be base64 encoded")
        return
    if size not in sizes:
        expected = f"[{' '.join(str(one) for one in sizes)}]"
        detail = f"secret is not of the expected length, got {size}, expected one of {expected}"
        yield faults.invalid(f"{path}.secret", "REDACTED", detail)


def _kms_faults(kms: Kms, path: str, names: set[str]) -> Iterator[Cause]:
    version = kms.api_version or "v1"
    if not kms.name:
        yield faults.required(f"{path}.name", "name is a mandatory field for a provider")
    if version != "v1" and ":" in kms.name:
        detail = f"invalid KMS provider name {kms.name}, must not contain ':'"
        yield faults.invalid(f"{path}.name", kms.name, detail)
    if version != "v1" and kms.name in names:
        detail = f"duplicate KMS provider name {kms.name}, names must be unique"
        yield faults.invalid(f"{path}.name", kms.name, detail)
    try:
        is_positive = _duration_s(kms.timeout) > 0
    except ValueError:
        is_positive = False
    if not is_positive:
        yield faults.invalid(f"{path}.timeout", kms.timeout, "timeout should be a positive value")
    if not kms.endpoint:
        yield faults.invalid(f"{path}.endpoint", "", "endpoint is a mandatory field for a kms")
    elif (scheme := kms.endpoint.partition(":")[0]) != "unix":
        detail = f'unsupported scheme "{scheme}" for KMS provider, only unix is supported'
        yield faults.invalid(f"{path}.endpoint", kms.endpoint, detail)
    if version != "v1" and kms.cachesize is not None:
        yield faults.invalid(f"{path}.cachesize", kms.cachesize, "cachesize is not supported in v2")
    if version == "v1" and kms.cachesize == 0:
        detail = "cachesize should be a positive value, or negative to disable"
        yield faults.invalid(f"{path}.cachesize", 0, detail)
    if version not in ("v1", "v2"):
        detail = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
        yield faults.invalid(f"{path}.apiVersion", version, detail)
