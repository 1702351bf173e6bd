"""The encryption configuration while the server runs: key management services are probed, a changed file is taken over.

    file ── every POLL_S, by its hash ──> read, start its services, wait until they are well ──> the store uses it

A file that cannot be used changes nothing: the server goes on with what it has, says so, and tries again, soon first.
Start-up waits until every service has answered once. Deviation: kube-apiserver serves meanwhile, and refuses what it
cannot open; this one's watch cache has to have opened all of it.
Source: k8s.io/apiserver server/options/encryptionconfig, and its controller; KEP-3299, "Hot reload".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.api.clock import Clock
from orchestrator.apiserver.encryption_metrics import EncryptionMetrics
from orchestrator.store.encryption.configuration import ConfigurationError, Encryption, Surroundings, hash_of
from orchestrator.store.encryption.sealedstore import EncryptedStore
from orchestrator.store.interface import Store

log = logging.getLogger(__name__)

POLL_S = 60.0
AGAIN_FIRST_S = 0.005
WELL_WAIT_S = 10.0  # at least, for the services of a new file
WELL_AGAIN_S = 0.1


class EncryptionKeeper:
    """`opened` reads the file and wraps the store; `run` goes on from there. `server_id` names this server in metrics;
    with `reload`, the file is looked at every `poll_s`."""

    def __init__(
        self,
        path: str,
        clock: Clock,
        new_uid: Callable[[], str],
        server_id: str,
        *,
        reload: bool,
        poll_s: float = POLL_S,
    ) -> None:
        self._path = path
        self._around = Surroundings(new_uid, clock, self._told)
        self._numbers = EncryptionMetrics(server_id, clock)
        self._reload = reload
        self._poll_s = poll_s
        self._store: EncryptedStore | None = None
        self._probes: list[asyncio.Task[None]] = []

    async def opened(self, store: Store) -> EncryptedStore:
        """Errors: ConfigurationError."""
        encryption = Encryption.read(self._path, self._around)
        while (error := await _unwell(encryption)) is not None:
            log.error("start-up waits for a key management service", extra={"error": error})
            await asyncio.sleep(WELL_AGAIN_S * 10)
        self._probe(encryption)
        self._store = EncryptedStore(store, encryption)
        return self._store

    async def run(self) -> None:
        """Until cancelled, where the file may change."""
        delay_s = self._poll_s
        while self._reload:
            await asyncio.sleep(min(delay_s, self._poll_s))
            try:
                is_new = await self._look()
            except ConfigurationError as error:
                self._numbers.reloaded("failure")
                log.error(
                    "the encryption configuration stays as it was", extra={"file": self._path, "error": str(error)}
                )
                delay_s = AGAIN_FIRST_S if delay_s >= self._poll_s else delay_s * 2
                continue
            delay_s = self._poll_s
            if is_new:
                self._numbers.reloaded("success")
                log.info("encryption configuration loaded", extra={"file": self._path})

    async def _look(self) -> bool:
        """Takes the file over where it is another than the one in use."""
        assert self._store is not None
        try:
            content = Path(self._path).read_bytes()
        except OSError as error:
            raise ConfigurationError(str(error)) from error
        if hash_of(content) == self._store.encryption.content_hash:
            return False
        encryption = Encryption.read(self._path, self._around)
        wait_s = max(WELL_WAIT_S, 2 * sum(plugin.timeout_s for plugin in encryption.plugins))
        until = asyncio.get_running_loop().time() + wait_s
        while (unwell := await _unwell(encryption)) is not None:
            if asyncio.get_running_loop().time() > until:
                raise ConfigurationError(f"health check for new transformers failed: {unwell}")
            await asyncio.sleep(WELL_AGAIN_S)
        self._store.encryption = encryption
        self._end_probes()
        self._probe(encryption)
        return True

    @property
    def has_check(self) -> bool:
        """Whether health has `kms-providers`: with a plugin, or where one may come."""
        return self._reload or bool(self._store and self._store.encryption.plugins)

    async def check(self) -> str | None:
        """The health check `kms-providers`: None where all services are well."""
        return await _unwell(self._store.encryption) if self._store is not None else None

    async def close(self) -> None:
        await asyncio.gather(*self._end_probes(), return_exceptions=True)

    def _probe(self, encryption: Encryption) -> None:
        self._probes = [asyncio.get_running_loop().create_task(plugin.probe()) for plugin in encryption.plugins]

    def _end_probes(self) -> list[asyncio.Task[None]]:
        """Reads that have begun with the old services end by themselves."""
        ended, self._probes = self._probes, []
        for probe in ended:
            probe.cancel()
        return ended

    def _told(self, provider: str, method: str, code: str, took_s: float) -> None:
        self._numbers.called(provider, method, code, took_s)

    def metrics(self) -> Iterator[str]:
        assert self._store is not None
        return self._numbers.lines(self._store.encryption)


async def _unwell(encryption: Encryption) -> str | None:
    """What is wrong with which service, in kube-apiserver's words."""
    found = []
    for place, plugin in enumerate(encryption.plugins):
        if (error := await plugin.check()) is not None:
            found.append(f"kms-provider-{place}: {error}")
    if not found:
        return None
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]"
