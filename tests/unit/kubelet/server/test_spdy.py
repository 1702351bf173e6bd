"""SPDY frames against a client written from the draft: what a peer's compressor sends is read, whatever the cuts."""

import asyncio
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kubelet.server import spdy
from orchestrator.kubelet.server.portforward import SpdyForward
from orchestrator.kubelet.server.spdy import Codec, Data, Opened, Ping, Reset, SpdyError


class Client:
    """The client's side of one connection."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)

    def open(self, stream_id: int, headers: dict[str, str], *, is_last: bool = False) -> bytes:
        pairs = [field.encode() for pair in headers.items() for field in pair]
        text = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(field)) + field for field in pairs)
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIBB", stream_id, 0, 0, 0) + block
        return struct.pack(">HHI", 0x8003, 1, int(is_last) << 24 | len(body)) + body

    def read(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """(type or stream id, flags, body) of each frame; headers of replies are read to keep the state."""
        found = []
        while data:
            first, rest = struct.unpack_from(">II", data)
            length = rest & 0xFFFFFF
            body, data = data[8 : 8 + length], data[8 + length :]
            is_control = bool(first >> 31)
            if is_control and first & 0xFFFF == spdy.SYN_REPLY:
                self._inflate.decompress(body[4:])
            found.append((-(first & 0xFFFF) if is_control else first, rest >> 24, body))
        return found


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_cuts_have_no_meaning(cuts: list[int]) -> None:
    client, codec = Client(), Codec()
    sent = (
        client.open(1, {"streamtype": "error", "port": "80", "requestid": "0"}, is_last=True)
        + client.open(3, {"streamtype": "data", "port": "80", "requestid": "0"})
        + codec.data(3, b"hello", is_last=True)
        + struct.pack(">HHII", 0x8003, spdy.PING, 4, 7)
        + Codec.reset(3, spdy.CANCEL)
    )
    events: list[spdy.Event] = []
    for cut in [*cuts, len(sent)]:
        events += codec.feed(sent[:cut])
        sent = sent[cut:]
    assert events == [
        Opened(1, {"streamtype": "error", "port": "80", "requestid": "0"}, True),
        Opened(3, {"streamtype": "data", "port": "80", "requestid": "0"}, False),
        Data(3, b"hello", True),
        Ping(7),
        Reset(3),
    ]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">HHI", 0x8002, 1, 0), id="spdy-2"),
        pytest.param(struct.pack(">HHI", 0x8003, 1, 2) + b"ab", id="too-short"),
        pytest.param(struct.pack(">HHI", 0x8003, 1, 14) + b"\0" * 10 + b"nope", id="not-compressed"),
    ],
)
def test_what_is_no_spdy_is_said_so(data: bytes) -> None:
    with pytest.raises(SpdyError):
        Codec().feed(data)


class MemoryPipe:
    """Both ends of a connection, in memory."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.outgoing = bytearray()
        self.written = asyncio.Event()

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.outgoing += data
        self.written.set()

    async def frames(self, client: Client, is_enough: int) -> list[tuple[int, int, bytes]]:
        while True:
            await self.written.wait()
            self.written.clear()
            try:
                found = Client().read(bytes(self.outgoing))
            except struct.error:
                continue
            if len(found) >= is_enough:
                return client.read(bytes(self.outgoing))


async def test_a_pair_of_streams_is_one_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pipe, client = MemoryPipe(), Client()
    forward = SpdyForward(pipe, lambda port: asyncio.open_connection("127.0.0.1", port), "web, uid 1")
    running = asyncio.create_task(forward.run())
    headers = {"port": str(port), "requestid": "0"}
    pipe.incoming.put_nowait(client.open(1, {"streamtype": "error"} | headers, is_last=True))
    pipe.incoming.put_nowait(client.open(3, {"streamtype": "data"} | headers))
    pipe.incoming.put_nowait(Codec.data(3, b"ping", is_last=True))
    frames = await asyncio.wait_for(pipe.frames(client, 5), 5)
    assert frames[0][0] == frames[1][0] == -spdy.SYN_REPLY
    assert frames[2:] == [(3, 0, b"PING"), (3, 1, b""), (1, 1, b"")]
    pipe.incoming.put_nowait(b"")
    await running
    server.close()


async def test_a_port_that_nobody_listens_on_is_an_error_of_its_pair_alone() -> None:
    async def refuse(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError("Connection refused")

    pipe, client = MemoryPipe(), Client()
    running = asyncio.create_task(SpdyForward(pipe, refuse, "web, uid 1").run())
    for index, kind in ((1, "error"), (3, "data")):
        pipe.incoming.put_nowait(client.open(index, {"streamtype": kind, "port": "81", "requestid": "0"}))
    frames = await asyncio.wait_for(pipe.frames(client, 5), 5)
    assert (1, 0, b"error forwarding port 81 to pod web, uid 1: Connection refused") in frames
    pipe.incoming.put_nowait(struct.pack(">HHII", 0x8003, spdy.PING, 4, 9))
    await asyncio.wait_for(pipe.frames(Client(), 6), 5)
    pipe.incoming.put_nowait(b"")
    await running
