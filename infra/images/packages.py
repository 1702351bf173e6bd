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
TEST_COMMANDS = {"etcd": "etcd-server", "sysctl": "procps", "setpriv": "util-linux"}

# What building a VM's disk calls besides (infra/images/vm.py); mke2fs is the image's own.
DISK_COMMANDS = {"qemu-img": "qemu-utils"}

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

# What a machine needs besides, which a namespace node has from its host: the VM's disk has it, and a cloud image of a
# user's gets both lists by apt.
MACHINE_PACKAGES = (
    "cloud-init",
    "dbus-user-session",  # a lingering user's systemd, whose cgroups carry the limits of rootless pods
    "e2fsprogs",
    "kmod",
    "libpam-systemd",
    "nfs-common",
    "openssh-server",
    "qemu-guest-agent",  # the clock after a restore, and a consistent disk for a snapshot
    "systemd",
    "systemd-sysv",
    "udev",
)
KERNELS = {"amd64": "linux-image-cloud-amd64", "arm64": "linux-image-cloud-arm64"}
