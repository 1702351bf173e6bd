"""Importing what components are made of, without two things that take a fifth of the time and serve nobody.

The garbage collector would go through hundreds of thousands of objects that stay for good; and aiohttp makes a TLS
context with the distribution's 140 authorities when it is imported, where every connection of ours brings its own.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

AUTHORITIES = "SSL_CERT_FILE"  # where OpenSSL looks for them: asked anew for each context


@contextmanager
def quickly() -> Iterator[None]:
    """What is imported in here is imported quickly. May be nested."""
    collects, before = gc.isenabled(), os.environ.get(AUTHORITIES)
    gc.disable()
    os.environ[AUTHORITIES] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[AUTHORITIES]
        else:
            os.environ[AUTHORITIES] = before
        if collects:
            gc.freeze()
            gc.enable()
