"""The Container Network Interface: a network configuration list, and the plugins it names, executed one by one.

ADD and CHECK run the plugins in order, DEL in reverse. Each gets its own configuration with the list's name and version
and, as prevResult, what the plugin before it (ADD) or the whole ADD (CHECK, DEL) answered. As in container runtimes the
list in force is the first file of the folder in lexical order, so an administrator replaces ours by adding another.
Errors: PorterError with the plugin's own code and message. Source: CNI specification 1.0.0, sections 1 to 5.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from orchestrator.porter.verbs import PorterError

Command = Literal["ADD", "DEL", "CHECK"]

PLUGIN_TIMEOUT_S = 30
INTERFACE = "eth0"
NETWORK = "sampan"
VERSION = "1.0.0"


class Attachment(Struct, frozen=True):
    """One pod's interface, as plugins are told of it. `namespace_path` is "" where the namespace is gone (DEL)."""

    uid: str
    namespace: str
    name: str
    namespace_path: str

    def environment(self, command: Command, plugin_dirs: Sequence[str]) -> dict[str, str]:
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.name,
            "K8S_POD_INFRA_CONTAINER_ID": self.uid,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.uid,
            "CNI_NETNS": self.namespace_path,
            "CNI_IFNAME": INTERFACE,
            "CNI_PATH": ":".join(plugin_dirs),
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }


def default_list(pod_cidrs: Sequence[str], *, mtu: int, is_bridge_filtered: bool, data_dir: str) -> dict[str, Any]:
    """Our own network: each pod on this node's CIDRs, with the node as its gateway.

    Pods share a bridge, unless the kernel does not show bridged packets to the packet filter: an answer from a pod to
    its neighbour would then bypass the translation of service addresses, so each pod gets a link of its own instead.
    """
    ipam = {
        "type": "host-local",
        "dataDir": data_dir,
        "ranges": [[{"subnet": cidr}] for cidr in pod_cidrs],
        "routes": [{"dst": "::/0" if ":" in cidr else "0.0.0.0/0"} for cidr in pod_cidrs],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False, "ipam": ipam}
    link = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    plugin = bridge if is_bridge_filtered else link
    return {"cniVersion": VERSION, "name": NETWORK, "plugins": [plugin | ({"mtu": mtu} if mtu else {})]}


def load_list(folder: Path) -> dict[str, Any]:
    """The configuration list in force. PorterError where there is none, or it cannot be used."""
    files = sorted(file for file in folder.glob("*") if file.suffix in (".conflist", ".conf", ".json"))
    if not files:
        raise PorterError(f"no CNI configuration in {folder}: this node has no pod CIDR yet")
    try:
        found = json.loads(files[0].read_text())
    except (OSError, ValueError) as error:
        raise PorterError(f"CNI configuration {files[0]}: {error}") from error
    if "plugins" not in found:
        found = {"cniVersion": found.get("cniVersion"), "name": found.get("name"), "plugins": [found]}
    if not found.get("name") or not found["plugins"]:
        raise PorterError(f"CNI configuration {files[0]} has no name or no plugins")
    return dict(found)


def takes_port_mappings(network: Mapping[str, Any]) -> bool:
    """Whether a plugin of the list maps host ports itself."""
    return any((plugin.get("capabilities") or {}).get("portMappings") for plugin in network["plugins"])


async def add(
    network: Mapping[str, Any], attachment: Attachment, plugin_dirs: Sequence[str], ports: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The result of the last plugin."""
    result: dict[str, Any] | None = None
    for plugin in network["plugins"]:
        configuration = _plugin_configuration(network, plugin, result, ports)
        result = await _execute("ADD", plugin["type"], configuration, attachment, plugin_dirs)
    assert result is not None
    return result


async def delete(
    network: Mapping[str, Any], attachment: Attachment, plugin_dirs: Sequence[str], result: Mapping[str, Any] | None
) -> None:
    for plugin in reversed(network["plugins"]):
        configuration = _plugin_configuration(network, plugin, result, ())
        await _execute("DEL", plugin["type"], configuration, attachment, plugin_dirs)


async def check(
    network: Mapping[str, Any], attachment: Attachment, plugin_dirs: Sequence[str], result: Mapping[str, Any]
) -> None:
    """PorterError says what is not as ADD left it."""
    moved = relocated(result, attachment.namespace_path)
    for plugin in network["plugins"]:
        configuration = _plugin_configuration(network, plugin, moved, ())
        await _execute("CHECK", plugin["type"], configuration, attachment, plugin_dirs)


def relocated(result: Mapping[str, Any], namespace_path: str) -> dict[str, Any]:
    """The result with the path by which the namespace is known now: ours is a descriptor, another one at each call."""
    interfaces = [
        interface | ({"sandbox": namespace_path} if interface.get("sandbox") else {})
        for interface in result.get("interfaces") or ()
    ]
    return {**result, "interfaces": interfaces}


def _plugin_configuration(
    network: Mapping[str, Any],
    plugin: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
    ports: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    made = {"cniVersion": network.get("cniVersion") or VERSION, "name": network["name"], **plugin}
    capabilities = made.pop("capabilities", None) or {}
    if capabilities.get("portMappings") and ports:
        made["runtimeConfig"] = {"portMappings": list(ports)}
    return made | ({"prevResult": previous} if previous is not None else {})


async def _execute(
    command: Command,
    kind: str,
    configuration: Mapping[str, Any],
    attachment: Attachment,
    plugin_dirs: Sequence[str],
) -> dict[str, Any]:
    """One plugin, once. An ADD answers its result; the others answer nothing."""
    if "/" in kind:
        raise PorterError(f"CNI plugin type {kind!r} is a path")
    program = next((path for folder in plugin_dirs if (path := Path(folder) / kind).is_file()), None)
    if program is None:
        raise PorterError(f"CNI plugin {kind} is in none of {', '.join(plugin_dirs)}")
    child = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=attachment.environment(command, plugin_dirs),
    )
    try:
        async with asyncio.timeout(PLUGIN_TIMEOUT_S):
            out, err = await child.communicate(json.dumps(configuration).encode())
    except TimeoutError as error:
        raise PorterError(f"CNI {command} by {kind} took more than {PLUGIN_TIMEOUT_S} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    answer = _parse(out)
    if child.returncode != 0:
        said = answer.get("msg") or err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        details = f": {answer['details']}" if answer.get("details") else ""
        raise PorterError(
            f"CNI {command} by {kind} failed (code {answer.get('code', child.returncode)}): {said}{details}"
        )
    return answer


def _parse(out: bytes) -> dict[str, Any]:
    try:
        found = json.loads(out) if out.strip() else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}
