"""The streaming subresources as rows of the API server's handler table.

`handlers(backends, lookup, chance)` goes into `Tables.handlers`; `backends.close()` is called when the server ends.
"""

from __future__ import annotations

import random

from orchestrator.apiserver.handlers import Handler
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams.backend import Backends
from orchestrator.apiserver.streams.podstreams import PodStreams
from orchestrator.apiserver.streams.proxy import Proxies


def handlers(backends: Backends, lookup: Lookup, chance: random.Random) -> dict[tuple[str, str], Handler]:
    pods, proxies = PodStreams(backends, lookup), Proxies(backends, lookup, chance)
    return {
        ("pods", "log"): pods.log,
        ("pods", "exec"): pods.exec,
        ("pods", "attach"): pods.attach,
        ("pods", "portforward"): pods.port_forward,
        ("pods", "proxy"): proxies.pod,
        ("services", "proxy"): proxies.service,
        ("nodes", "proxy"): proxies.node,
    }
