"""Our API server beside the genuine kube-apiserver on etcd, on one machine in one run, by hand.

    python -m tests.benchmarks.apiserver_beside KUBE_APISERVER [--rounds 2] [--count 1000] [--watchers 100]

Takes turns: ours on its SQLite file, theirs on an etcd that syncs its writes, each with TLS, tokens and RBAC; again.
Prints for each row the median of either and ours divided by theirs: rates (more is better), milliseconds, MiB of PSS of
the API server and its store together. GETs are `wrk`'s where it is installed. Other load on the machine moves the
figures of both; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from cryptography.hazmat.primitives import serialization

from infra import pki
from infra.topology import Topology
from tests.benchmarks import apiserver_load as load
from tests.benchmarks.apiserver_load import CONFIGMAPS, PODS, Target, pod
from tests.whole_server import free_port

TOKEN = "benchmark"
START_LIMIT_S = 60
GET_S = 4
WATCHED = 500
PROGRAM = """
import sys
from pathlib import Path
import uvloop
from orchestrator.apiserver.main import run
from tests.whole_server import settings
folder = Path(sys.argv[1])
uvloop.run(run(settings(folder, int(sys.argv[2]), {"token_auth_file": str(folder / "tokens.csv")})))
"""


@dataclass
class Running:
    """An API server and, where it has one, its etcd."""

    port: int
    processes: list[subprocess.Popen[bytes]]
    cold_start_ms: float

    def pss_mib(self) -> float:
        return sum(_pss_kib(process.pid) for process in self.processes) / 1024

    def stop(self) -> None:
        for process in self.processes[::-1]:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _pss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)[0])


def spawn(folder: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"})


def insecure_tls() -> ssl.SSLContext:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


async def ready(port: int, began: float) -> float:
    """Milliseconds until /readyz says so."""
    tls = insecure_tls()
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            try:
                connection = await Target("127.0.0.1", port, tls).connect()
                await connection.request("GET", "/readyz")
                connection.close()
                return (time.perf_counter() - began) * 1e3
            except (OSError, RuntimeError, IndexError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.005)


async def ours(folder: Path) -> Running:
    port, began = free_port(), time.perf_counter()
    process = spawn(folder, "ours", sys.executable, "-c", PROGRAM, str(folder), str(port))
    return Running(port, [process], await ready(port, began))


async def etcd_started(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """An etcd that answers, and its URL."""
    client, peer = free_port(), free_port()
    url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    etcd = spawn(
        folder, "etcd", "etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", url,
        "--advertise-client-urls", url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}",
        "--log-level", "error",
    )  # fmt: skip
    async with asyncio.timeout(START_LIMIT_S):
        while subprocess.run(["curl", "-sf", f"{url}/health"], capture_output=True, check=False).returncode:
            await asyncio.sleep(0.02)
    return etcd, url


async def theirs(folder: Path, program: str) -> Running:
    port, keys = free_port(), folder / "pki"
    etcd, url = await etcd_started(folder)
    began = time.perf_counter()
    server = spawn(
        folder, "theirs", program, f"--etcd-servers={url}", f"--secure-port={port}", "--bind-address=127.0.0.1",
        "--advertise-address=192.0.2.1", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC",
        f"--tls-cert-file={keys}/apiserver.crt", f"--tls-private-key-file={keys}/apiserver.key",
        f"--client-ca-file={keys}/ca.crt", f"--service-account-key-file={_public(keys)}",
        f"--service-account-signing-key-file={keys}/sa.key", "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={folder}/tokens.csv",
    )  # fmt: skip
    try:
        return Running(port, [etcd, server], await ready(port, began))
    except TimeoutError:
        Running(port, [etcd, server], 0).stop()
        raise


def _public(keys: Path) -> Path:
    """The public half of the key that signs service accounts' tokens, which kube-apiserver wants apart."""
    key = serialization.load_pem_private_key((keys / "sa.key").read_bytes(), None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (keys / "sa.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return keys / "sa.pub"


@dataclass
class Figures:
    """row → the values of its rounds."""

    rows: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: str, value: float) -> None:
        self.rows.setdefault(row, []).append(value)


def token_target(port: int) -> Target:
    return Target("127.0.0.1", port, insecure_tls(), TOKEN)


async def measure(server: Running, figures: Figures, count: int, watchers: int) -> None:
    target = token_target(server.port)
    figures.add("cold start to /readyz, ms", server.cold_start_ms)
    await asyncio.sleep(3)  # what start-up does behind its answers
    figures.add("memory idle, MiB", server.pss_mib())
    first = await target.connect()
    await load.prepared(first)

    names, plain = [f"created-{number}" for number in range(count)], "application/json"
    creates = [("POST", PODS, json.dumps(pod(name)).encode(), plain) for name in names]
    figures.add("create pod, 16 clients, /s", await _rate(target, 16, creates))
    label, strategic = b'{"metadata":{"labels":{"touched":"yes"}}}', "application/strategic-merge-patch+json"
    patches = [("PATCH", f"{PODS}/{name}", label, strategic) for name in names]
    figures.add("patch label, 16 clients, /s", await _rate(target, 16, patches))
    figures.add("apply ConfigMap, 16 clients, /s", await _rate(target, 16, _applies(count)))
    figures.add(
        "GET one pod over TLS, 32 connections, /s",
        requests_per_s(subprocess.run(gets_words(server.port, 32), capture_output=True, text=True, check=True).stdout),
    )
    for row, query in (("LIST", ""), ("LIST resourceVersion=0", "?resourceVersion=0"),
                       ("LIST 1 by label", "?labelSelector=name%3Dcreated-1")):  # fmt: skip
        figures.add(f"{row} of {count} pods, ms", _list_ms(target, PODS + query))
    events_per_s, latencies = await load.watching(target, watchers, WATCHED)
    cuts = statistics.quantiles(latencies, n=100)
    figures.add(f"watch, {watchers} × {WATCHED} creates, events/s", events_per_s)
    figures.add("  from create to event, p50, ms", cuts[49] * 1e3)
    figures.add("  from create to event, p99, ms", cuts[98] * 1e3)
    figures.add("memory after the load, MiB", server.pss_mib())
    start = time.perf_counter()
    await first.request("DELETE", PODS)
    figures.add(f"deletecollection of {count + WATCHED} pods, s", time.perf_counter() - start)


def _applies(count: int) -> list[tuple[str, str, bytes, str]]:
    applies = []
    for number in range(count):
        name = f"applied-{number % 200}"
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        obj["data"] = {f"key-{key}": f"{number} {load.PADDING}" for key in range(10)}
        path = f"{CONFIGMAPS}/{name}?fieldManager=bench"
        applies.append(("PATCH", path, json.dumps(obj).encode(), "application/apply-patch+yaml"))
    return applies


async def _rate(target: Target, clients: int, requests: list[tuple[str, str, bytes, str]]) -> float:
    start = time.perf_counter()
    await load.worked_off(target, clients, requests)
    return len(requests) / (time.perf_counter() - start)


def gets_words(port: int, connections: int) -> list[str]:
    """wrk's command line: GETs of one Pod."""
    url = f"https://127.0.0.1:{port}{PODS}/created-0"
    return ["wrk", "-t1", f"-c{connections}", f"-d{GET_S}s", "-H", f"Authorization: Bearer {TOKEN}", url]


def requests_per_s(told: str) -> float:
    assert "Non-2xx" not in told, told
    return float(re.findall(r"Requests/sec: +([0-9.]+)", told)[0])


def _list_ms(target: Target, path: str) -> float:
    return statistics.median(load.list_s(target, path)[0] * 1e3 for _ in range(7))


async def main(program: str, rounds: int, count: int, watchers: int) -> None:
    found: dict[str, Figures] = {"ours": Figures(), "theirs": Figures()}
    for number in range(rounds):
        for name, figures in found.items():
            with TemporaryDirectory() as place:
                folder = Path(place)
                pki.ensure(folder / "pki", Topology(name="test", workers=0))
                (folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
                server = await (ours(folder) if name == "ours" else theirs(folder, program))
                try:
                    await measure(server, figures, count, watchers)
                finally:
                    server.stop()
            print(f"round {number + 1} of {name} done", flush=True)
    median: Callable[[list[float]], float] = statistics.median
    print(f"{'':44} {'ours':>10} {'theirs':>10}  ours/theirs")
    for row, values in found["ours"].rows.items():
        mine, other = median(values), median(found["theirs"].rows[row])
        print(f"{row:44} {mine:10.1f} {other:10.1f}  {mine / other:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--watchers", type=int, default=100)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None or shutil.which("etcd") is None:
        sys.exit("needs wrk and etcd (apt-get install wrk etcd-server)")
    uvloop.run(main(arguments.program, arguments.rounds, arguments.count, arguments.watchers))
