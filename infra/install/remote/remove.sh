# Take Sampan off a machine: units, containers, mounts, network, files, users. $1: the id of the user `sampan`.
# May be repeated, also after it was broken off. Debian packages stay.
set -e
group=/sys/fs/cgroup/system.slice/sampan-podman.service
units=$(cd /etc/systemd/system && { ls -d sampan-*.service usr-share-sampan-images.mount 2>/dev/null || true; })

[ -z "$units" ] || systemctl disable --now --quiet $units
[ ! -e "$group/cgroup.kill" ] || echo 1 > "$group/cgroup.kill" # containers outlive their service
if id -u sampan >/dev/null 2>&1; then
    loginctl disable-linger sampan
    systemctl stop "user@$1.service" "user-runtime-dir@$1.service"
fi

# What the porter mounted for pods, the deepest first.
{ grep -o ' /var/lib/sampan/kubelet/[^ ]*' /proc/self/mounts || true; } | sort -r | while read -r place; do
    umount -l "$place"
done

for table in sampan-proxy sampan-porter; do
    ! nft list table inet "$table" >/dev/null 2>&1 || nft delete table inet "$table"
done
for family in -4 -6; do
    ip "$family" route flush proto 83 # the porter's
done
[ ! -e /sys/class/net/cni0 ] || ip link delete cni0

for unit in $units; do
    rm -f "/etc/systemd/system/$unit"
done
rm -rf /etc/sampan /opt/sampan /usr/share/sampan /run/sampan /var/lib/sampan /var/lib/containers/sampan \
    /var/log/sampan /var/log/pods /var/log/containers /var/lib/cni/sampan /var/lib/cni/networks
rm -f /etc/cni/net.d/10-sampan.conflist /etc/modules-load.d/sampan.conf /etc/sysctl.d/60-sampan.conf \
    /etc/tmpfiles.d/sampan.conf /usr/lib/python3/dist-packages/sampan.pth /usr/bin/sampan
for name in sampan sampan-server; do
    sed -i "/^$name:/d" /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/subuid /etc/subgid
done
systemctl daemon-reload
