"""What a VM's disk has of its own in /etc: cloud-init, network, kernel modules and settings, systemd. Pure text.

- cloud-init reads NoCloud alone (a disk labelled `cidata`), makes host name, SSH keys and files, and no user.
- The network is systemd-networkd's: cloud-init's network-config where there is one, else DHCP for both families.
  A DHCPv6 server knows the machine by its MAC: the client id is 00:03:00:01 and then the MAC.
- The root file system grows to its disk at boot; modules that nodes need are loaded before sysctls are set.
"""

from __future__ import annotations

from infra.images.sysctls import SYSCTLS

# Before sysctls are set. All else is loaded by whoever needs it, which takes no longer later than at boot.
MODULES = ("br_netfilter", "button", "evdev", "overlay")  # button, evdev: `virsh shutdown`
# Kept unpacked in the tree, with what they need: to unpack them at each boot takes seconds under emulation.
UNPACKED = (
    *MODULES, "ahci", "ata_piix", "autofs4", "ip_tables", "isofs", "nf_tables", "nft_chain_nat",
    "nft_ct", "nft_fib_inet", "nft_hash", "nft_masq", "nft_nat", "nft_numgen", "nft_redir", "nft_reject_inet",
    "qemu_fw_cfg", "sr_mod", "tun", "veth", "virtio_balloon", "virtio_blk", "virtio_net", "virtio_rng", "vxlan",
)  # fmt: skip
# Loaded for a processor or a device that looks as if it could use them; none is of use in a lab's machine.
BLACKLISTED = (
    "acpi_cpufreq", "aesni_intel", "crc32_pclmul", "crct10dif_pclmul", "drm", "ghash_clmulni_intel", "intel_rapl_msr",
    "kvm", "kvm_amd", "kvm_intel", "pcspkr", "polyval_clmulni", "powernow_k8", "psmouse", "sg", "sha1_ssse3",
    "sha256_ssse3", "sha512_ssse3",
)  # fmt: skip

# Nothing in a lab's machine waits for these, or they would act by themselves at some time.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "cloud-init-hotplugd.socket",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "ldconfig.service",
    "modprobe@drm.service",
    "netavark-dhcp-proxy.service",
    "netavark-dhcp-proxy.socket",
    "netavark-firewalld-reload.service",
    "nfs-blkmap.service",
    "nfs-client.target",  # version 4 is mounted without it
    "nginx.service",
    "proc-sys-fs-binfmt_misc.automount",
    "rpcbind.service",
    "rpcbind.socket",
    "serial-getty@ttyAMA0.service",
    "serial-getty@ttyS0.service",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hwdb-update.service",
    "systemd-initctl.socket",
    "systemd-journal-catalog-update.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",  # each machine has virtio-rng
    "systemd-sysext.socket",
    "systemd-sysusers.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-done.service",
)
# udev's look at what was there before it: 40 devices instead of 460, 70 of which are terminals.
TRIGGERED = ("block", "input", "misc", "net", "pci", "scsi", "virtio", "virtio-ports")
# Its rules for what a lab's machine does not have; each would be read and asked about every device.
MASKED_RULES = (
    "55-dm", "60-autosuspend", "60-drm", "60-fido-id", "60-infiniband", "60-persistent-alsa", "60-persistent-input",
    "60-persistent-storage-dm", "60-persistent-storage-mtd", "60-persistent-storage-tape", "60-persistent-v4l",
    "60-sensor", "60-serial", "64-btrfs", "66-azure-ephemeral", "70-camera", "70-joystick", "70-memory", "70-mouse",
    "70-touchpad", "70-uaccess", "71-seat", "73-seat-late", "75-net-description", "75-probe_mtd", "78-sound-card",
    "81-net-dhcp", "90-iocost", "95-dm-notify", "96-e2scrub", "99-nfs",
)  # fmt: skip
# Of users' service managers: sockets that nobody in a lab connects to, bound again by each manager.
MASKED_FOR_USERS = (
    "dirmngr.socket",
    "gpg-agent-browser.socket",
    "gpg-agent-extra.socket",
    "gpg-agent-ssh.socket",
    "gpg-agent.socket",
    "keyboxd.socket",
    "ssh-agent.socket",
)
# cloud-init.target is otherwise chosen by a generator that looks for a cloud in a long shell script, at each boot.
# (qemu-guest-agent is started by udev where its channel is; a boot would wait for one that is not.)
ENABLED = {
    "multi-user.target.wants": ("cloud-init.target", "systemd-growfs-root.service", "systemd-networkd.service"),
}
# Generators for what a lab's machine does not have; each costs a process at every start and daemon-reload.
MASKED_GENERATORS = (
    "cloud-init-generator",
    "podman-system-generator",
    "rpc-pipefs-generator",
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
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
logcfg: /etc/cloud/logging.conf
output: {all: '>> /var/log/cloud-init-output.log'}
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


# Without `site`: the components' dependencies, which a .pth file adds, have a JSON schema library that cloud-init would
# use to check its input for seconds.
CLOUD_MAIN = """\
[Service]
Environment=PYTHONPATH=/usr/lib/python3/dist-packages
ExecStart=
ExecStart=/usr/bin/python3 -S -m cloudinit.cmd.main --all-stages
"""
# The disk that tells the machine what it is may be found later than cloud-init is ready to look.
CLOUD_LOCAL = """\
[Service]
ExecStartPre=-/usr/bin/udevadm wait --timeout=20 /dev/disk/by-label/cidata
"""
CLOUD_LOG = """\
[loggers]
keys=root,cloudinit
[handlers]
keys=file
[formatters]
keys=line
[logger_root]
level=INFO
handlers=file
[logger_cloudinit]
level=INFO
qualname=cloudinit
handlers=
propagate=1
[handler_file]
class=FileHandler
level=INFO
formatter=line
args=('/var/log/cloud-init.log', 'a', 'UTF-8')
[formatter_line]
format=%(asctime)s - %(filename)s[%(levelname)s]: %(message)s
"""
UDEV_TRIGGER = f"""\
[Service]
ExecStart=
ExecStart=-/usr/bin/udevadm trigger --action=add {" ".join(f"--subsystem-match={name}" for name in TRIGGERED)}
"""
# As Debian's, without logind: SSH is how a machine is installed, and a session of root's would start a user manager.
PAM_SSHD = """\
@include common-auth
account    required     pam_nologin.so
@include common-account
session    required     pam_loginuid.so
session    optional     pam_keyinit.so force revoke
session    required     pam_unix.so
session    required     pam_limits.so
session    required     pam_env.so
@include common-password
"""
SSHD = """\
[Service]
ExecStartPre=
"""


def network_rules(rules: str) -> str:
    """systemd's rules without the process that sets sysctls of each new network device, such as a pod's: ours are
    defaults, which new devices have by themselves."""
    kept = [line for line in rules.splitlines(keepends=True) if not ("systemd-sysctl" in line and '"net"' in line)]
    return "".join(kept)


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
        "/etc/cloud/cloud.cfg.d/05_logging.cfg": "",
        "/etc/cloud/logging.conf": CLOUD_LOG,
        "/etc/fstab": "",
        "/etc/modprobe.d/sampan.conf": "".join(f"blacklist {module}\n" for module in BLACKLISTED),
        "/etc/pam.d/sshd": PAM_SSHD,
        "/etc/modules-load.d/sampan.conf": "".join(f"{module}\n" for module in MODULES),
        "/etc/ssh/sshd_config.d/sampan.conf": "PasswordAuthentication no\nUseDNS no\nPrintLastLog no\n",
        "/etc/sysctl.d/60-sampan.conf": sysctl_conf(),
        "/etc/systemd/network/90-dhcp.network": NETWORK,
        "/etc/systemd/networkd.conf.d/sampan.conf": NETWORKD,
        "/etc/systemd/system.conf.d/sampan.conf": "[Manager]\nDefaultTimeoutStopSec=20s\n",
        "/etc/systemd/journald.conf.d/sampan.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n",
        "/etc/systemd/system/cloud-init-local.service.d/sampan.conf": CLOUD_LOCAL,
        "/etc/systemd/system/cloud-init-main.service.d/sampan.conf": CLOUD_MAIN,
        "/etc/systemd/system/systemd-udev-trigger.service.d/sampan.conf": UDEV_TRIGGER,
        "/etc/systemd/system/ssh.service.d/sampan.conf": SSHD,
        "/etc/systemd/system/user@.service.d/sampan.conf": "[Service]\nDelegate=cpu cpuset io memory pids\n",
        "/etc/apt/sources.list": "deb http://deb.debian.org/debian trixie main\n",
    }


def links() -> dict[str, str]:
    """Symbolic links by absolute path: masked units and generators, units that start at boot."""
    units = "/etc/systemd/system"
    found = {f"{units}/{name}": "/dev/null" for name in MASKED}
    found |= {f"/etc/systemd/system-generators/{name}": "/dev/null" for name in MASKED_GENERATORS}
    found |= {f"/etc/udev/rules.d/{name}.rules": "/dev/null" for name in MASKED_RULES}
    found |= {f"/etc/systemd/user/{name}": "/dev/null" for name in MASKED_FOR_USERS}
    for target, names in ENABLED.items():
        found |= {f"{units}/{target}/{name}": f"/usr/lib/systemd/system/{name}" for name in names}
    return found
