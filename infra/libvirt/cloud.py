"""The lab's cloud controller as a Pulumi resource: a service of this machine, in the network namespace of the lab's
hypervisor, from the control plane's installation until the lab goes. Without it new nodes keep their taint
`node.cloudprovider.kubernetes.io/uninitialized`, so it is ready when the control planes have lost theirs.

Inputs: its files (secrets), its command, and `code`, by which a new version restarts it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from infra.hypervisor import services
from infra.install import cloud
from infra.libvirt import access, cluster, registry
from infra.libvirt.nodes import speaker
from infra.topology import CONTROL_PLANE, Topology

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "orchestrator.cli", cloud.COMPONENT, "--config")
REASONS = ("files", "netns", "code", "table")


def service(lab: str) -> str:
    return f"sampan-cloud-{lab}"


def log(lab: str) -> Path:
    return registry.folder(lab) / f"{cloud.COMPONENT}.log"


def start(props: Mapping[str, Any]) -> None:
    lab, folder = props["lab"], registry.folder(props["lab"])
    services.stop_service(service(lab))  # its files may have changed, or its code
    access.write(folder, props["files"])
    services.ensure_service(
        service(lab),
        [*COMMAND, str(folder / f"{cloud.COMPONENT}.yaml")],
        environment={"PYTHONPATH": str(ROOT)},
        netns=props["netns"] or None,
        log=log(lab),
    )
    say = speaker()
    for node in props["controlPlanes"]:
        cluster.wait_initialized(folder / registry.KUBECONFIG, node, say)


def stop(props: Mapping[str, Any]) -> None:
    end(props["lab"], props["netns"], props["table"])
    for name in props["files"]:
        (registry.folder(props["lab"]) / name).unlink(missing_ok=True)


def end(lab: str, netns: str, table: str) -> None:
    """The service, and its packet filter's table, which outlives it, as it should when it restarts."""
    services.stop_service(service(lab))
    inside = ["nsenter", f"--net={services.NETNS / netns}", "--"] if netns else []
    text = f"table inet {table}\ndelete table inet {table}\n"
    subprocess.run([*inside, "nft", "-f", "-"], input=text, text=True, check=False, capture_output=True)


class CloudProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(olds.get(key) != news[key] for key in REASONS))

    def create(self, props: dict[str, Any]) -> CreateResult:
        start(props)
        return CreateResult(service(props["lab"]), props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_ if services.status(id_) else "", props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        start(news)
        return UpdateResult(news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        stop(props)


def contents(topology: Topology, keys: Mapping[str, str], uri: str) -> dict[str, str]:
    """Its files by name, for the lab's folder."""
    known = {name: keys[name].encode() for name in cloud.KEYS}
    made = cloud.files(
        topology, known, registry.folder(topology.name), cloud.libvirt_settings(topology, uri)
    )  # fmt: skip
    return {Path(file.path).name: file.content.decode() for file in made}


class CloudController(Resource, module="sampan", name="CloudController"):
    def __init__(
        self,
        topology: Topology,
        files: pulumi.Input[Mapping[str, str]],
        netns: str | None,
        code: str,
        options: pulumi.ResourceOptions,
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["files"])
        props = {
            "lab": topology.name,
            "files": files,
            "netns": netns or "",
            "code": code,
            "table": cloud.table(topology),
            "controlPlanes": [node.name for node in topology.nodes if node.role == CONTROL_PLANE],
        }
        super().__init__(CloudProvider(), "cloud-controller", props, pulumi.ResourceOptions.merge(options, secret))
