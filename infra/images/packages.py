"""Every Debian package that Sampan asks for, in one place: what the host lacks and what a node is made of."""

from __future__ import annotations

# On the host: command that must be on PATH -> the package that brings it. kubectl is handled apart (infra/host.py).
HOST_COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}

# What tests call besides, on a host that lacks it.
TEST_COMMANDS = {"sysctl": "procps", "setpriv": "util-linux"}

NODE_SUITE = "trixie"
NODE_PACKAGES = (
    "busybox-static",  # the busybox image, and tools in the others
    "ca-certificates",
    "catatonit",  # PID 1 of a node, and the pause image
    "conntrack",
    "containernetworking-plugins",
    "crun",
    "e2fsprogs",  # the file systems of volumes that are disks
    "fuse-overlayfs",
    "iproute2",
    "iputils-ping",
    "nftables",
    "nginx-light",  # the nginx image
    "podman",
    "procps",
    "python3",
    "python3-nftables",
    "uidmap",
)
