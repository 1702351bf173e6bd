"""The porter of one node: settings, the verbs, the door, and the two things it does unasked (routes, masquerade).

A change of any Node wakes the second; a change of any pod of this node only wakes verbs that wait for it.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import pwd
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import Struct, field

from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.client.client import Client
from orchestrator.client.informer import Informer, Informers
from orchestrator.porter import cgroups, network, pods, routes
from orchestrator.porter.cgroups import Cgroups, Group
from orchestrator.porter.disks import Disks
from orchestrator.porter.mounts import Mounts
from orchestrator.porter.network import Detach, Network, Places
from orchestrator.porter.ownership import Ownership
from orchestrator.porter.paths import Paths
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap, parse_subordinate
from orchestrator.porter.records import Records
from orchestrator.porter.server import Server
from orchestrator.porter.verbs import Answer, PodArguments, PorterError, Verb

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Config(Struct, frozen=True, kw_only=True):
    node_name: str
    kubeconfig: str = "/etc/sampan/kubelet.kubeconfig"
    socket: str = "/run/sampan/porter.sock"
    kubelet_user: str = "sampan"
    pods_dir: str = "/var/lib/sampan/kubelet/pods"
    manifests_dir: str = ""  # static pods; "" for none
    cgroup_parent: str = "sampan"  # below each v1 hierarchy
    mtu: int = 0  # of pod interfaces; 0 is the kernel's own
    cni: Places = field(default_factory=Places)


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Runs until cancelled. Attached pods stay attached: a porter that starts again finds them on record."""
    async with AsyncExitStack() as stack:
        if informers is None:
            if client is None:
                client = Client.from_kubeconfig(config.kubeconfig, user_agent="porter")
                stack.push_async_callback(client.close)
            informers = await stack.enter_async_context(Informers(client))
        selector = f"spec.nodeName={config.node_name}"
        pod_informer = informers.informer(PODS, field_selector=selector, indexers={"uid": pods.uids_of})
        node_informer = informers.informer(NODES)
        known = Pods(pod_informer.cache, config.node_name, Path(config.manifests_dir) if config.manifests_dir else None)
        pod_informer.add_handler(known.changed)
        ids = id_map(config.kubelet_user)
        pod_network = Network(config.cni, config.node_name, known, Records(Path(config.cni.state_dir)), ids)
        server = Server(
            Path(config.socket), verbs(config, known, pod_network, ids), frozenset({0, ids.user_id}), ids.group_id
        )
        network.set_node_sysctls()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve())
            tasks.create_task(follow_nodes(node_informer, pod_network, config))
            tasks.create_task(release_orphans(pod_informer, known, pod_network))


def verbs(config: Config, known: Pods, pod_network: Network, ids: IdMap) -> dict[str, Verb]:
    """The closed list."""
    pods_dir = Path(config.pods_dir)
    groups = Cgroups(
        cgroups.parse_hierarchies(Path("/proc/self/mountinfo").read_text()), config.cgroup_parent, known, ids
    )

    async def release(uid: str) -> None:
        await pod_network.detach(Detach(uid=uid))
        await groups.remove(Group(uid=uid))

    async def info(_: NodeInfo) -> Answer:
        return Answer(
            {"cgroup_version": groups.version, "enforces": groups.enforces(), "network_ready": pod_network.is_ready}
        )

    return {
        **pod_network.verbs(),
        **Mounts(pods_dir, known, ids).verbs(),
        **Disks(pods_dir, known, ids).verbs(),
        **Ownership(pods_dir, known, ids).verbs(),
        **Paths(pods_dir, known, ids, release).verbs(),
        **groups.verbs(),
        "node.info": Verb(NodeInfo, info),
    }


class NodeInfo(PodArguments, frozen=True, kw_only=True):
    """Asks for nothing; the uid that pods' verbs carry is not needed here."""

    uid: str = ""


def id_map(user: str) -> IdMap:
    """The user's own ids and its ranges of /etc/subuid and /etc/subgid."""
    entry = pwd.getpwnam(user)
    uids = parse_subordinate(_read("/etc/subuid"), user, entry.pw_uid)
    gids = parse_subordinate(_read("/etc/subgid"), user, entry.pw_uid)
    return IdMap(entry.pw_uid, grp.getgrgid(entry.pw_gid).gr_gid, *uids, *gids)


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.exists() else ""


async def follow_nodes(informer: Informer, pod_network: Network, config: Config) -> None:
    """Level-triggered: whenever a node's network may differ, all of it is computed and made so again."""
    changed = asyncio.Event()

    def note(old: Object | None, new: Object | None) -> None:
        if (old and routes.parse_node(old)) != (new and routes.parse_node(new)):
            changed.set()

    informer.add_handler(note)
    await informer.wait_synced()
    changed.set()
    while True:
        await changed.wait()
        changed.clear()
        nodes = [routes.parse_node(node) for node in informer.cache.list()]
        try:
            await pod_network.set_surroundings(routes.surroundings(nodes, config.node_name), config.mtu)
            count = await routes.apply(routes.routes(nodes, config.node_name))
        except PorterError as error:
            # A route may need an address that another is still setting: look again soon.
            log.warning("node network not set", extra={"error": str(error)})
            changed.set()
            await asyncio.sleep(RETRY_S)
        else:
            if count:
                log.info("routes set", extra={"changes": count, "nodes": len(nodes)})


async def release_orphans(informer: Informer, known: Pods, pod_network: Network) -> None:
    await informer.wait_synced()
    try:
        await pod_network.release_orphans(lambda uid: known.find(uid) is not None)
    except PorterError as error:
        log.warning("attachments of gone pods remain", extra={"error": str(error)})
