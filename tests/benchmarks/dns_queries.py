"""How many queries one DNS server answers on one core, and how late: `python -m tests.benchmarks.dns_queries`.

The server runs in a process of its own with 5,000 Services; this process keeps `IN_FLIGHT` queries under way over UDP
on loopback, over names drawn at random (one of five does not exist, as a search path asks), and changes a Service ten
times a second through the zone, so that packed answers are dropped as they are in a living cluster.
Target: 10,000 queries/s or more, p99 2 ms or less. The figure is of the server's CPU time as well as of the wall clock,
for client and server share the machine.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import struct
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from orchestrator.dns import message
from orchestrator.dns.forward import Forwarder
from orchestrator.dns.records import service_names
from orchestrator.dns.resolver import Resolver
from orchestrator.dns.server import Server
from orchestrator.dns.zone import Zone

PORT = 10_953
SERVICES = 5_000
IN_FLIGHT = 16
CHANGE_S = 0.1


def service(index: int, change: int = 0) -> dict[str, Any]:
    address = f"10.{change % 200}.{index >> 8}.{index & 255}"
    return {"metadata": {"name": f"web-{index}", "namespace": "default"}, "spec": {"clusterIPs": [address]}}


async def serve(pipe: Connection) -> None:
    zone = Zone("cluster.local")
    for index in range(SERVICES):
        zone.put(f"default/web-{index}", service_names(service(index), [], "cluster.local"))
    forwarder = Forwarder((), asyncio.get_running_loop().time)
    udp, tcp = Resolver(zone, forwarder), Resolver(zone, forwarder, message.TCP_BYTES)
    async with Server(udp, tcp, ("127.0.0.1",), PORT):
        pipe.send("ready")
        change = 0
        while not pipe.poll():
            await asyncio.sleep(CHANGE_S)
            change += 1
            zone.put("default/web-0", service_names(service(0, change), [], "cluster.local"))
            udp.packed.clear()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send((usage.ru_utime + usage.ru_stime, usage.ru_maxrss))


def run_server(pipe: Connection) -> None:
    uvloop.run(serve(pipe))


class Load(asyncio.DatagramProtocol):
    def __init__(self, queries: list[bytes], count: int) -> None:
        self.queries, self.count = queries, count
        self.sent_at: dict[int, float] = {}
        self.latencies: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.number = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        for _ in range(IN_FLIGHT):
            self.ask()

    def ask(self) -> None:
        self.number += 1
        number = self.number & 0xFFFF
        self.sent_at[number] = time.perf_counter()
        self.transport.sendto(struct.pack("!H", number) + self.queries[self.number % len(self.queries)])

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.latencies.append(time.perf_counter() - self.sent_at.pop(int.from_bytes(data[:2], "big")))
        if self.number < self.count:
            self.ask()
        elif len(self.latencies) == self.count and not self.done.done():
            self.done.set_result(None)


def make_queries(count: int) -> list[bytes]:
    choose = random.Random(7)
    queries = []
    for _ in range(count):
        name = f"web-{choose.randrange(SERVICES)}.default.svc.cluster.local"
        if choose.random() < 0.2:
            name += ".default.svc.cluster.local"
        queries.append(
            struct.pack("!5H", message.RD, 1, 0, 0, 0) + message.encode_name(name) + struct.pack("!2H", message.A, 1)
        )
    return queries


async def load(count: int) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Load(make_queries(20_000), count), remote_addr=("127.0.0.1", PORT)
    )
    await asyncio.wait_for(protocol.done, 120)
    transport.close()
    return time.perf_counter() - began, sorted(protocol.latencies)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=run_server, args=(theirs,))
    server.start()
    ours.recv()
    before_s = time.process_time()
    took_s, latencies = uvloop.run(load(count))
    ours.send("stop")
    server_cpu_s, peak_kib = ours.recv()
    server.join()
    result = {
        "queries_per_s": round(count / took_s),
        "p50_ms": round(latencies[count // 2] * 1e3, 3),
        "p99_ms": round(latencies[count * 99 // 100] * 1e3, 3),
        "server_cpu_us_per_query": round(server_cpu_s / count * 1e6, 1),
        "client_cpu_s": round(time.process_time() - before_s, 2),
        "server_peak_mib": round(peak_kib / 1024),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
