"""What encryption at rest did, under upstream's names: reloads, calls of key management services, their keys' use.

Source: k8s.io/apiserver encryptionconfig/metrics, encrypt/envelope/metrics.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.api.clock import Clock
from orchestrator.api.histogram import Histogram
from orchestrator.apiserver.metrics import family
from orchestrator.store.encryption.configuration import Encryption, hash_of
from orchestrator.store.encryption.kms import KmsProvider

CALL_BOUNDS_S = tuple(0.0001 * 2**power for power in range(20))
_CONTROLLER = "apiserver_encryption_config_controller_"
_ENVELOPE = "apiserver_envelope_encryption_"


class EncryptionMetrics:
    def __init__(self, server_id: str, clock: Clock) -> None:
        self._server = f'apiserver_id_hash="{hash_of(server_id.encode())}"'
        self._clock = clock
        self._calls: dict[tuple[str, str, str], Histogram] = {}
        self._reloads: dict[str, int] = {}
        self._reloaded_at: dict[str, float] = {}

    def called(self, provider: str, method: str, code: str, took_s: float) -> None:
        self._calls.setdefault((provider, method, code), Histogram(CALL_BOUNDS_S)).observe(took_s)

    def reloaded(self, status: str) -> None:
        self._reloads[status] = self._reloads.get(status, 0) + 1
        self._reloaded_at[status] = self._clock.now()

    def lines(self, encryption: Encryption) -> Iterator[str]:
        server = self._server
        samples = [(f'{server},status="{status}"', count) for status, count in self._reloads.items()]
        yield from family(f"{_CONTROLLER}automatic_reloads_total", "counter", "Reloads, by how they ended.", samples)
        times = [(f'{server},status="{status}"', when) for status, when in self._reloaded_at.items()]
        name, meaning = "automatic_reload_last_timestamp_seconds", "When the last reload was, by how it ended."
        yield from family(f"{_CONTROLLER}{name}", "gauge", meaning, times)
        config = [(f'{server},hash="{encryption.content_hash}"', 1)]
        yield from family(f"{_CONTROLLER}last_config_info", "gauge", "The configuration in use, by its hash.", config)
        name = f"{_ENVELOPE}kms_operations_latency_seconds"
        yield from family(name, "histogram", "Calls of key management services.", ())
        for (provider, method, code), took in sorted(self._calls.items()):
            labels = f'grpc_status_code="{code}",method_name="{method}",provider_name="{provider}"'
            yield from took.lines(name, labels)
        yield from self._of_keys(encryption.plugins)

    def _of_keys(self, plugins: list[KmsProvider]) -> Iterator[str]:
        sizes = [(_provider(one), one.known) for one in plugins]
        name, meaning = "dek_source_cache_size", "Data keys that are kept decrypted."
        yield from family(f"{_ENVELOPE}{name}", "gauge", meaning, sizes)
        counts = [(self._use(one, *used), count) for one in plugins for used, count in sorted(one.use.counts.items())]
        yield from family(f"{_ENVELOPE}key_id_hash_total", "counter", "How often a key was used.", counts)
        times = [(self._use(one, *used), when) for one in plugins for used, when in sorted(one.use.last_used.items())]
        name, meaning = "key_id_hash_last_timestamp_seconds", "When a key was last used."
        yield from family(f"{_ENVELOPE}{name}", "gauge", meaning, times)
        seen = [
            (f'{self._server},key_id_hash="{key}",{_provider(one)}', when)
            for one in plugins
            for key, when in sorted(one.use.status_seen.items())
        ]
        name, meaning = "key_id_hash_status_last_timestamp_seconds", "When a service last named a key as its present."
        yield from family(f"{_ENVELOPE}{name}", "gauge", meaning, seen)
        invalid = [
            (f'error="{code}",{_provider(one)}', count)
            for one in plugins
            for code, count in sorted(one.use.invalid_from_status.items())
        ]
        name, meaning = "invalid_key_id_from_status_total", "How often a service named what can be no key."
        yield from family(f"{_ENVELOPE}{name}", "counter", meaning, invalid)

    def _use(self, plugin: KmsProvider, direction: str, key: str) -> str:
        return f'{self._server},key_id_hash="{key}",{_provider(plugin)},transformation_type="{direction}"'


def _provider(plugin: KmsProvider) -> str:
    return f'provider_name="{plugin.name}"'
