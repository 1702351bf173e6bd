"""A pod's network: attach, check, connect into and detach, and the node's own part of it.

    absent --attach--> recorded (half attached) --plugins done--> attached --detach--> absent

Attach is idempotent: the same infra process again answers the same addresses; another process of the same pod (it was
made anew, or the node rebooted) first releases what the former one had. Detach of what is absent succeeds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.api import meta
from orchestrator.porter import cni, hostports, netns, processes
from orchestrator.porter.hostports import Surroundings
from orchestrator.porter.pods import Pods, static_key
from orchestrator.porter.processes import IdMap
from orchestrator.porter.records import PortMapping, Record, Records
from orchestrator.porter.verbs import Answer, PodArguments, Port, PorterError, Verb

log = logging.getLogger(__name__)

CONFLIST = "10-sampan.conflist"
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class Attach(PodArguments, frozen=True, kw_only=True):
    namespace: str
    name: str
    pid: int
    ports: tuple[PortMapping, ...] = ()


class Detach(PodArguments, frozen=True, kw_only=True):
    namespace: str = ""
    name: str = ""


class Connect(PodArguments, frozen=True, kw_only=True):
    port: Port


class Places(Struct, frozen=True, kw_only=True):
    """Where CNI keeps its things."""

    config_dir: str = "/etc/cni/net.d"
    plugin_dirs: tuple[str, ...] = ("/usr/lib/cni", "/opt/cni/bin")
    data_dir: str = "/var/lib/cni/networks"
    state_dir: str = "/var/lib/cni/sampan"


class Network:
    """The verbs `pod.*` of the network, over the records."""

    def __init__(self, places: Places, node_name: str, pods: Pods, records: Records, ids: IdMap) -> None:
        self._places, self._node_name, self._pods, self._records, self._ids = places, node_name, pods, records, ids
        self._around = Surroundings()
        self._rules: str | None = None  # as last committed
        self._rules_lock = asyncio.Lock()

    def verbs(self) -> dict[str, Verb]:
        return {
            "pod.attach": Verb(Attach, self.attach),
            "pod.detach": Verb(Detach, self.detach),
            "pod.check": Verb(PodArguments, self.check),
            "pod.connect": Verb(Connect, self.connect),
        }

    @property
    def is_ready(self) -> bool:
        """Whether pods can be attached: the kubelet's NetworkReady."""
        return any(Path(self._places.config_dir).glob("*.conf*"))

    async def set_surroundings(self, around: Surroundings, mtu: int) -> None:
        """This node's CIDRs have become known, or another node came or went."""
        self._around = around
        if around.own:
            self._write_configuration(around, mtu)
        await self._commit_rules()

    async def attach(self, wish: Attach) -> Answer:
        key = meta.join_key(wish.namespace, wish.name)
        pod = await self._pods.require(msgspec.structs.replace(wish, pod=wish.pod or key))
        self._check_name(pod, wish)
        process = f"{wish.pid}:{processes.start_time(wish.pid)}"
        known = self._records.get(wish.uid)
        if known is not None and known.process == process and known.result is not None:
            return Answer({"ips": known.ips})
        processes.check_owned(wish.pid, self._ids)
        others = [record for record in self._records.all() if record.uid != wish.uid]
        if reason := hostports.conflict(wish.ports, others):
            raise PorterError(reason)
        if known is not None:
            await self._release(known)
        network = cni.load_list(Path(self._places.config_dir))
        namespace = processes.open_network_namespace(wish.pid)
        try:
            record = Record(
                uid=wish.uid,
                namespace=wish.namespace,
                name=wish.name,
                process=process,
                network=network,
                ports=() if cni.takes_port_mappings(network) else wish.ports,
            )
            self._records.put(record)
            await netns.run_inside(namespace, netns.prepare)
            ports = [msgspec.to_builtins(port) for port in wish.ports]
            result = await cni.add(network, _attachment(record, namespace), self._places.plugin_dirs, ports)
        finally:
            os.close(namespace)
        record = msgspec.structs.replace(record, result=result)
        self._records.put(record)
        if record.ports:
            await self._commit_rules()
            await hostports.forget_connections(record.ports)
        log.info("pod attached", extra={"pod": record.key, "ips": record.ips})
        return Answer({"ips": record.ips})

    async def detach(self, wish: Detach) -> Answer:
        """Needs no pod in the API: it may be long gone."""
        record = self._records.get(wish.uid)
        if record is not None:
            await self._release(record)
        return Answer()

    async def check(self, wish: PodArguments) -> Answer:
        record = self._attached(wish.uid)
        namespace = self._open(record)
        try:
            assert record.result is not None
            await cni.check(record.network, _attachment(record, namespace), self._places.plugin_dirs, record.result)
        finally:
            os.close(namespace)
        return Answer({"ips": record.ips})

    async def connect(self, wish: Connect) -> Answer:
        """A socket connected to a port of the pod's own localhost, for port-forward."""
        pod = await self._pods.require(wish)
        dial: Callable[[], int] = lambda: netns.connect_to_localhost(wish.port)  # noqa: E731
        if (pod.get("spec") or {}).get("hostNetwork"):
            return Answer({}, (await asyncio.to_thread(dial),))
        namespace = self._open(self._attached(wish.uid))
        try:
            return Answer({}, (await netns.run_inside(namespace, dial),))
        finally:
            os.close(namespace)

    async def release_orphans(self, is_bound: Callable[[str], bool]) -> None:
        """At start: what belongs to pods that went while the porter was away."""
        for record in self._records.all():
            if not is_bound(record.uid) and not _is_alive(record):
                await self._release(record)

    async def _release(self, record: Record) -> None:
        """Plugins first, the record last: whatever is interrupted is done again."""
        attachment = _attachment(record, None)
        namespace: int | None = None
        try:
            if _is_alive(record):
                namespace = processes.open_network_namespace(_pid(record))
                attachment = _attachment(record, namespace)
        except PorterError:
            pass  # it ended this instant, and its interfaces with it
        try:
            await cni.delete(record.network, attachment, self._places.plugin_dirs, record.result)
        finally:
            if namespace is not None:
                os.close(namespace)
        self._records.remove(record.uid)
        if record.ports:
            await self._commit_rules()
            await hostports.forget_connections(record.ports)
        log.info("pod detached", extra={"pod": record.key})

    def _attached(self, uid: str) -> Record:
        record = self._records.get(uid)
        if record is None or record.result is None:
            raise PorterError(f"pod {uid} is not attached")
        return record

    def _open(self, record: Record) -> int:
        if not _is_alive(record):
            raise PorterError(f"the infra process of pod {record.key} is gone")
        return processes.open_network_namespace(_pid(record))

    def _check_name(self, pod: meta.Object, wish: Attach) -> None:
        wanted = meta.join_key(wish.namespace, wish.name)
        if wanted not in (meta.key(pod), static_key(pod, self._node_name)):
            raise PorterError(f"uid {wish.uid} is pod {meta.key(pod)}, not {wish.namespace}/{wish.name}")

    def _write_configuration(self, around: Surroundings, mtu: int) -> None:
        file = Path(self._places.config_dir) / CONFLIST
        wanted = cni.default_list(
            around.own, mtu=mtu, is_bridge_filtered=BRIDGE_FILTER.exists(), data_dir=self._places.data_dir
        )
        text = json.dumps(wanted, indent=2) + "\n"
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            written = file.with_suffix(".new")
            written.write_text(text)
            written.rename(file)
            log.info("network configuration written", extra={"file": str(file), "pod_cidrs": around.own})

    async def _commit_rules(self) -> None:
        async with self._rules_lock:
            text = hostports.ruleset(self._around, [record for record in self._records.all() if record.result])
            if text != self._rules:
                await hostports.commit(text)
                self._rules = text


def set_node_sysctls() -> None:
    """A node forwards, shows bridged packets to the filter, and lets 127.0.0.1 reach a host port."""
    for name, value in {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv6/conf/default/forwarding": "1",
        "net/ipv6/conf/all/accept_dad": "0",
        "net/ipv6/conf/default/accept_dad": "0",
        "net/ipv4/conf/all/route_localnet": "1",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/bridge/bridge-nf-call-iptables": "1",
        "net/bridge/bridge-nf-call-ip6tables": "1",
    }.items():
        netns.write_sysctl(name, value)


def _attachment(record: Record, namespace: int | None) -> cni.Attachment:
    path = "" if namespace is None else f"/proc/{os.getpid()}/fd/{namespace}"
    return cni.Attachment(record.uid, record.namespace, record.name, path)


def _pid(record: Record) -> int:
    return int(record.process.partition(":")[0])


def _is_alive(record: Record) -> bool:
    pid, _, started = record.process.partition(":")
    try:
        return processes.start_time(int(pid)) == started
    except PorterError:
        return False
