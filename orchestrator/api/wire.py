"""HTTP without a socket: the request and response that API server and client exchange, whatever carries them.

The API server is a function from Request to Response; a network server feeds it bytes, and a client in the same process
calls it directly, with the same authentication, authorization and admission. A response body is bytes, or a `Stream`
for a watch or a followed log: an asynchronous iterator of chunks that ends when the answer does.
Header names are lower case in both directions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct, field


class Identity(Struct, frozen=True):
    """Who asks: a user name and groups, as authentication found them (authentication.k8s.io UserInfo)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Request(Struct):
    """`path` is percent-decoded and has no query; `query` keeps order and repeats. Of headers that come more than once
    `headers` has the values joined by commas, and `repeated` each. `identity` is set by a trusted in-process transport
    only, and by the server for its own routes; on the network it is always found by authentication."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    identity: Identity | None = None
    peer_certificate: bytes | None = None  # DER, verified by TLS
    peer_anchor: bytes | None = None  # DER of the authority that it was verified by
    remote_address: str = ""
    repeated: Mapping[str, list[str]] = field(default_factory=dict)
    unread: Callable[[], Awaitable[bytes]] | None = None  # the body, where it has not come yet
    outlives_client: bool = False  # once begun, it is finished though its client may have gone

    async def read(self) -> None:
        """Has the body, which is not asked for before it is known who sends it. Errors: ApiError."""
        if self.unread is not None:
            unread, self.unread = self.unread, None
            self.body = await unread()

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def values(self, header: str) -> list[str]:
        """The values of a header, each as it was sent."""
        if header in self.headers:
            return self.repeated.get(header) or [self.headers[header]]
        return []


Stream = AsyncIterator[bytes]


class Response(Struct):
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Stream = b""


class Transport(Protocol):
    """Carries a request to an API server. Errors: ConnectionError where it cannot be reached."""

    async def send(self, request: Request) -> Response: ...

    async def close(self) -> None: ...
