"""What a VM's disk has of its own in /etc: cloud-init, network, kernel modules and settings, systemd. Pure text.

- cloud-init reads NoCloud alone (a disk labelled `cidata`), makes host name, SSH keys and files, and no user.
- The network is systemd-networkd's: cloud-init's network-config where there is one, else DHCP for both families.
  A DHCPv6 server knows the machine by its MAC: the client id is 00:03:00:01 and then the MAC.
- The root file system grows to its disk at boot; modules that nodes need are loaded before sysctls are set.
"""

from __future__ import annotations

from infra.images.sysctls import SYSCTLS

MODULES = ("br_netfilter", "fuse", "nf_tables", "nfs", "overlay", "tun", "veth", "vxlan")

# Nothing in a lab's machine waits for these, or they would act by themselves at some time.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "cloud-init-hotplugd.socket",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "ldconfig.service",
    "netavark-dhcp-proxy.service",
    "netavark-dhcp-proxy.socket",
    "netavark-firewalld-reload.service",
    "nfs-blkmap.service",
    "nginx.service",
    "rpcbind.service",
    "rpcbind.socket",
    "serial-getty@ttyS0.service",
    "serial-getty@ttyAMA0.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-sysusers.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-update-done.service",
)
# (qemu-guest-agent is started by udev where its channel is; a boot would wait for one that is not.)
ENABLED = {"multi-user.target.wants": ("systemd-networkd.service",)}
# Generators for what a lab's machine does not have; each costs a process at every start and daemon-reload.
MASKED_GENERATORS = (
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
)

CLOUD = """\
datasource_list: [NoCloud]
disable_root: false
preserve_hostname: false
users: []
ssh_genkeytypes: [ed25519]
cloud_init_modules: [bootcmd, write_files, set_hostname, users_groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts_user]
system_info:
  distro: debian
  network:
    renderers: [networkd]
  paths:
    cloud_dir: /var/lib/cloud
    templates_dir: /etc/cloud/templates
  ssh_svcname: ssh
"""

NETWORK = """\
[Match]
Type=ether
Kind=!*

[Network]
DHCP=yes
IPv6AcceptRA=yes

[DHCPv4]
ClientIdentifier=mac
"""

NETWORKD = """\
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
ManageForeignNextHops=no

[DHCPv6]
DUIDType=link-layer
"""


def sysctl_conf() -> str:
    settings = dict(SYSCTLS)
    settings["net/ipv4/conf/*/rp_filter"] = "0"  # as systemd's own file sets it, and each new interface gets it
    settings["net/ipv4/ping_group_range"] = f"0 {2**31 - 1}"  # whatever range of ids a node's user has
    settings["fs/inotify/max_user_instances"] = "8192"  # one user has all of a node's containers
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def texts() -> dict[str, str]:
    """By absolute path in the disk's root tree; each mode 0644."""
    return {
        "/etc/cloud/cloud.cfg": CLOUD,
        "/etc/cloud/ds-identify.cfg": "datasource: NoCloud\npolicy: enabled\n",
        "/etc/fstab": "/dev/vda / ext4 noatime,x-systemd.growfs 0 0\n",
        "/etc/modules-load.d/sampan.conf": "".join(f"{module}\n" for module in MODULES),
        "/etc/ssh/sshd_config.d/sampan.conf": "PasswordAuthentication no\nUseDNS no\nPrintLastLog no\n",
        "/etc/sysctl.d/60-sampan.conf": sysctl_conf(),
        "/etc/systemd/network/90-dhcp.network": NETWORK,
        "/etc/systemd/networkd.conf.d/sampan.conf": NETWORKD,
        "/etc/systemd/system.conf.d/sampan.conf": "[Manager]\nDefaultTimeoutStopSec=20s\n",
        "/etc/systemd/journald.conf.d/sampan.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n",
        "/etc/systemd/system/user@.service.d/sampan.conf": "[Service]\nDelegate=cpu cpuset io memory pids\n",
        "/etc/apt/sources.list": "deb http://deb.debian.org/debian trixie main\n",
    }


def links() -> dict[str, str]:
    """Symbolic links by absolute path: masked units and generators, units that start at boot."""
    units = "/etc/systemd/system"
    found = {f"{units}/{name}": "/dev/null" for name in MASKED}
    found |= {f"/etc/systemd/system-generators/{name}": "/dev/null" for name in MASKED_GENERATORS}
    for target, names in ENABLED.items():
        found |= {f"{units}/{target}/{name}": f"/usr/lib/systemd/system/{name}" for name in names}
    return found
