"""The Pulumi program of every lab of virtual machines: configuration -> topology -> resources.

    reservation ── keys (lab, each node) ── access (files for those who use the lab)
         └── each hypervisor: network, pool, base volume, kernel, initrd, the end of the cluster's disks
                 └── each node: drain, volume, cloud-init disk, domain ── installation (over SSH, until Ready)

New machines are made side by side: a worker is installed while the control plane is, and its components wait for the
API by themselves. The cloud controller is started on this machine when the control planes are Ready.
Nodes that were Ready before change one after the other, machine and installation, so that the lab's workloads have
somewhere to run.
A project's __main__.py calls `main`; nothing is decided here that `declare` does not get as an argument.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi.runtime.config
import pulumi_libvirt as libvirt
from pulumi import Output, ResourceOptions

from infra import kubeconfig, pki
from infra.hypervisor import host, kvm
from infra.hypervisor.host import Hypervisor
from infra.hypervisor.kvm import DomainType
from infra.images.vm import VmImage
from infra.images.wheel import wheel
from infra.install import components, release, vm
from infra.libvirt import arguments, clashes, cloud, cloud_init, image, registry, settings
from infra.libvirt.access import Access
from infra.libvirt.cloud import CloudController
from infra.libvirt.disks import ClusterDisks
from infra.libvirt.drain import Drain, size
from infra.libvirt.keys import AUTHORITY, SSH, Keys
from infra.libvirt.nodes import NodeInstall
from infra.libvirt.registry import Lab
from infra.libvirt.reservation import Reservation
from infra.libvirt.settings import AUTOMATIC, Settings
from infra.topology import CONTROL_PLANE, Node, Topology, TopologyError

Files = Output[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Host:
    """What this machine brings to a lab."""

    hypervisor: Hypervisor
    image: VmImage
    wheel: Path
    code: str  # hash of the components' code in it
    installed: Collection[str] = ()  # nodes of the lab that were Ready before
    types: Mapping[str, DomainType] = field(default_factory=dict)  # of domains, by URI of a further hypervisor


def main() -> None:
    try:
        run()
    except (RuntimeError, ValueError) as error:
        if type(error).__module__ == "builtins" or os.environ.get("SAMPAN_TRACE"):
            raise  # nobody's words for the user: a mistake of ours
        raise pulumi.RunError(str(error)) from error


def run() -> None:
    values = settings.namespaced(pulumi.runtime.config.CONFIG.get())
    stack, project = pulumi.get_stack(), pulumi.get_project()
    name = settings.lab_name(values, stack)
    early = settings.read(values, stack=stack, index=0)  # whatever is wrong is said before anything is looked for
    refuse_unsupported(early.topology)
    hypervisor = find_hypervisor(early)
    if early.image and registry.read(name) is None:  # later it is a base volume, which the file may go from
        image.check(Path(early.image))
    present = clashes.of_hypervisor(hypervisor.uri) if registry.read(name) is None else {}
    index = clashes.place_of(name, present)
    if index is None:
        index = registry.place(name, clashes.taken(present))
    wish = settings.read(values, stack=stack, index=index)
    clashes.refuse(wish.topology, present)
    code = wheel()
    here = Host(
        hypervisor=hypervisor,
        image=image.of_lab(name, pulumi.log.info),
        wheel=code,
        code=release.of_wheel(code).name,
        installed=registry.installed(name),
        types={uri: type_at(wish, uri) for uri in wish.topology.hypervisors.values()},
    )
    lab = Lab(
        topology=wish.topology,
        project=project,
        stack=stack,
        folder=str(Path.cwd()),
        uri=hypervisor.uri,
        image=image.noted(here.image),
    )
    declare(wish, here, lab)


def refuse_unsupported(topology: Topology) -> None:
    if topology.control_planes > 1:
        raise TopologyError(
            f"controlPlanes: {topology.control_planes}: this version of Sampan keeps its objects in SQLite, which "
            "serves one API server: set it to 1 (pulumi config set sampan:controlPlanes 1)"
        )


def find_hypervisor(wish: Settings) -> Hypervisor:
    configured = None if wish.domain_type == AUTOMATIC else wish.domain_type
    if wish.uri:
        kind = kvm.domain_type(configured, say=pulumi.log.info)
        return Hypervisor(wish.uri, None, kind, "the configuration")
    found = host.ensure(pulumi.log.info)
    if configured is None:
        return found
    return Hypervisor(found.uri, found.netns, kvm.domain_type(configured), found.origin)


def type_at(wish: Settings, uri: str) -> DomainType:
    """Another hypervisor may have KVM where the first has none, and the other way round."""
    return host.type_at(uri, pulumi.log.info) if wish.domain_type == AUTOMATIC else kvm.domain_type(wish.domain_type)


def declare(wish: Settings, here: Host, lab: Lab) -> None:
    topology = wish.topology
    reservation = Reservation(lab, ResourceOptions())
    after = ResourceOptions(depends_on=[reservation])
    keys = Keys("lab", pki.lab_subjects(topology), None, after)
    authority = keys.files.apply(lambda files: {name: files[name] for name in AUTHORITY})
    keys_of = {
        node.name: Keys(node.name, pki.node_subjects(topology, node), authority, after) for node in topology.nodes
    }
    admin = keys.files.apply(lambda files: admin_kubeconfig(topology, files))
    files = {
        registry.KUBECONFIG: admin,
        registry.SSH_KEY: keys.files.apply(lambda made: made[SSH]),
        registry.KNOWN_HOSTS: Output.all(**{name: one.files for name, one in keys_of.items()}).apply(
            lambda made: known_hosts(topology, made)
        ),
    }
    opened = Access("access", registry.folder(lab.name), files, after)
    sites = {
        uri: Site(wish, here, uri, "" if number == 0 else f"-{number}", after)
        for number, uri in enumerate(dict.fromkeys(node.hypervisor or here.hypervisor.uri for node in topology.nodes))
    }
    installs: list[NodeInstall] = []
    controls: list[pulumi.Resource] = []
    for node in topology.nodes:
        # What comes before this node's machine, and what before its installation.
        before = installs[-1:] if node.name in here.installed else []
        site = sites[node.hypervisor or here.hypervisor.uri]
        drain = Drain(topology, node, ResourceOptions(depends_on=[opened, *before]))
        domain = site.machine(node, keys, keys_of[node.name], drain)
        props = installation(wish, here, node, keys.files, keys_of[node.name].files, domain)
        earlier = before or (controls if node.role == CONTROL_PLANE else ())
        needs = [domain, opened, *earlier]
        install = NodeInstall(node.name, props, ResourceOptions(depends_on=needs))
        installs.append(install)
        if node.role == CONTROL_PLANE:
            controls.append(install)
        if node.role == CONTROL_PLANE and len(controls) == topology.control_planes:
            own = keys.files.apply(lambda made: cloud.contents(topology, made, here.hypervisor.uri))
            ready = ResourceOptions(depends_on=[*controls, opened])
            controls.append(CloudController(topology, own, here.hypervisor.netns, here.code, ready))
    pulumi.export("kubeconfig", Output.secret(admin))
    pulumi.export("api_endpoint", topology.server)
    pulumi.export("nodes", [described(topology, node) for node in topology.nodes])


class Site:
    """What a lab has on one hypervisor, whatever nodes it has there. `suffix` tells the resources of several apart;
    the first has none."""

    def __init__(self, wish: Settings, here: Host, uri: str, suffix: str, after: ResourceOptions) -> None:
        self.wish, self.here, self.is_first = wish, here, not suffix
        self.domain_type = here.types.get(uri, here.hypervisor.domain_type)
        topology = wish.topology
        provider = libvirt.Provider(f"hypervisor{suffix}", uri=uri)
        # Names are fixed, so what is replaced has to go first.
        self.options = ResourceOptions.merge(after, ResourceOptions(provider=provider, delete_before_replace=True))
        network = arguments.joined_network(topology) if suffix else arguments.network(topology)
        self.network = libvirt.Network(f"network{suffix}", **network, opts=self.options)
        folder = registry.folder(topology.name) / f"pool{suffix}"
        self.pool = libvirt.Pool(f"pool{suffix}", **arguments.pool(topology, folder), opts=self.options)
        self.within = ResourceOptions.merge(self.options, ResourceOptions(depends_on=[self.pool]))
        self.disks = ClusterDisks(
            f"disks{suffix}", uri, topology.name, ResourceOptions.merge(after, ResourceOptions(depends_on=[self.pool]))
        )
        boots = here.image
        sources = {arguments.BASE: Path(wish.image) if wish.image else boots.disk}
        if not wish.image:  # a cloud image has its own kernel and boot loader
            sources |= {arguments.KERNEL: boots.kernel, arguments.INITRD: boots.initrd}
        # A newer image must not pull the base from under the disks that grow from it: it is for labs made anew.
        keep = ResourceOptions.merge(self.within, ResourceOptions(ignore_changes=["source"]))
        self.sources = {
            name: libvirt.Volume(f"{name}{suffix}", **arguments.source(topology, name, file), opts=keep)
            for name, file in sources.items()
        }

    def machine(self, node: Node, lab_keys: Keys, node_keys: Keys, drain: Drain) -> libvirt.Domain:
        topology = self.wish.topology
        volume = libvirt.Volume(
            node.name,
            **arguments.volume(topology, node),
            base_volume_id=self.sources[arguments.BASE].id,
            opts=self.within,
        )
        user_data = Output.all(lab_keys.files, node_keys.files).apply(
            lambda made: cloud_init.user_data(node, made[0][f"{SSH}.pub"], made[1][SSH], made[1][f"{SSH}.pub"])
        )
        disk = libvirt.CloudInitDisk(
            node.name,
            name=f"{arguments.domain_name(topology.name, node.name)}-cloud-init.iso",
            pool=self.pool.name,
            user_data=user_data,
            meta_data=cloud_init.meta_data(topology, node),
            network_config=cloud_init.network_config(topology, node),
            opts=self.within,
        )
        console = registry.folder(topology.name) / registry.CONSOLE / f"{node.name}.log" if self.is_first else None
        boot = {}
        if not self.wish.image:
            boot = {
                "kernel": self.sources[arguments.KERNEL].id,
                "initrd": self.sources[arguments.INITRD].id,
                "cmdlines": arguments.kernel_arguments(self.here.image.cmdline, self.domain_type),
            }
        return libvirt.Domain(
            node.name,
            **arguments.domain(self.wish, node, self.domain_type, console),
            **boot,
            cloudinit=disk.id,
            disks=[{"volume_id": volume.id}],
            network_interfaces=[{"network_id": self.network.id, **arguments.interface(node, has_dhcp=self.is_first)}],
            opts=ResourceOptions.merge(
                self.options, ResourceOptions(depends_on=[self.disks, drain], ignore_changes=["cmdlines"])
            ),
        )


def installation(
    wish: Settings, here: Host, node: Node, lab_keys: Files, node_keys: Files, domain: libvirt.Domain
) -> dict[str, object]:
    """The inputs of a node's installation. Its fingerprint is computed from secrets, but tells none."""
    topology = wish.topology
    keys: Files = Output.all(lab_keys, node_keys).apply(
        lambda made: {name: {**made[0], **made[1]}[name] for name in components.key_names(node)}
    )
    files = keys.apply(
        lambda found: vm.fingerprint(
            vm.wanted(topology, node, {name: text.encode() for name, text in found.items()}, here.wheel)
        )
    )
    return {
        "node": node.name,
        "topology": json.dumps(topology.to_data(), sort_keys=True),
        "machine": domain.id,
        "size": size(node),
        "files": Output.unsecret(files),
        "wheel": str(here.wheel),
        "ownImage": wish.image,
        "keys": keys,  # secret, as what they are made of
        "sshKey": lab_keys.apply(lambda made: made[SSH]),
        "hostKey": Output.unsecret(node_keys.apply(lambda made: made[f"{SSH}.pub"])),
    }


def admin_kubeconfig(topology: Topology, files: Mapping[str, str]) -> str:
    name = kubeconfig.context(topology.name)
    keys = {file: text.encode() for file, text in files.items()}
    return pki.kubeconfig(keys, topology.server, "admin", cluster=name, user=name)


def known_hosts(topology: Topology, files: Mapping[str, Mapping[str, str]]) -> str:
    """known_hosts(5), by every name and address that a machine has."""
    return "".join(
        f"{node.name},{node.address_v4},{node.address_v6} {files[node.name][f'{SSH}.pub'].strip()}\n"
        for node in topology.nodes
    )


def ssh_command(topology: Topology, node: Node) -> str:
    folder = registry.folder(topology.name)
    known = folder / registry.KNOWN_HOSTS
    return f"ssh -i {folder / registry.SSH_KEY} -o UserKnownHostsFile={known} root@{node.address_v4}"


def described(topology: Topology, node: Node) -> dict[str, object]:
    return {
        "name": node.name,
        "role": node.role,
        "addresses": [node.address_v4, node.address_v6],
        "ssh": ssh_command(topology, node),
    }
