"""Run on a host of its own (a network namespace whose default route leads to `outside`): a guest reaches the outside
through a libvirtd of ours, and afterwards the host is as it was. Prints JSON for test_way_out.py.

    python -m tests.integration.hypervisor.way_out FOLDER ADDRESS PORT
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.hypervisor import link
from infra.hypervisor.libvirtd import Libvirtd

NETWORK = ("172.31.99.0/24", "fd00:172:32:99::/64")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
GUEST = f"guest-{os.getpid()}"
ASK = "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print(s.recv(99).decode())"


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout.strip()


def main() -> None:
    folder, address, port = sys.argv[1:]
    Path("/run/sampan").mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/sampan")  # the real host's is not this one's
    libvirtd = Libvirtd(Path(folder), NETWORK)
    seen: dict[str, object] = {"before": FORWARDING.read_text().strip()}
    try:
        libvirtd.start()
        seen["during"] = FORWARDING.read_text().strip()
        run(
            "virsh", "-c", libvirtd.uri, "net-create", "/dev/stdin",
            stdin="<network><name>n</name><forward mode='open'/><bridge name='n0'/>"
            "<ip address='172.31.99.1' prefix='24'/></network>",
        )  # fmt: skip
        inside = ("ip", "-netns", libvirtd.netns)
        run("ip", "netns", "add", GUEST)
        run(*inside, "link", "add", "g0", "master", "n0", "type", "veth", "peer", "name", "eth0", "netns", GUEST)
        run(*inside, "link", "set", "g0", "up")
        run("ip", "-netns", GUEST, "address", "add", "172.31.99.10/24", "dev", "eth0")
        run("ip", "-netns", GUEST, "link", "set", "eth0", "up")
        run("ip", "-netns", GUEST, "route", "add", "default", "via", "172.31.99.1")
        asking = ["ip", "netns", "exec", GUEST, sys.executable, "-c", ASK, address, port]
        asked = subprocess.run(asking, capture_output=True, text=True, check=False)
        seen["told"] = (asked.stdout or asked.stderr).strip().splitlines()[-1]
    finally:
        libvirtd.remove()
        subprocess.run(["ip", "netns", "delete", GUEST], check=False, capture_output=True)
    seen["after"] = FORWARDING.read_text().strip()
    seen["tables"] = run(link.nft(), "list", "tables")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
