"""Compaction: history is kept for one to two intervals, then forgotten; what is alive stays.

So a watch can go on from up to COMPACT_EVERY_S ago, as with kube-apiserver and etcd, and the log of Leases and Events,
most of a cluster's writes, does not grow without bound.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.store.interface import Store, StoreError

log = logging.getLogger(__name__)

COMPACT_EVERY_S = 300.0


async def keep_compact(store: Store, every_s: float = COMPACT_EVERY_S) -> None:
    """Runs as long as the server."""
    revision = store.revision
    while True:
        await asyncio.sleep(every_s)
        try:
            if revision > store.compacted:
                await store.compact(revision)
                log.debug("compacted", extra={"revision": revision})
        except StoreError as error:
            log.warning("compaction failed", extra={"revision": revision, "error": str(error)})
        revision = store.revision
