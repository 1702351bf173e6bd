"""Settings of the kubelet, as /etc/sampan/kubelet.yaml spells them. Bytes, seconds and counts are in the names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

KUBELET_VERSION = "v1.36.0"


class Taint(Struct, frozen=True, kw_only=True):
    key: str
    effect: str
    value: str = ""


class Config(Struct, frozen=True, kw_only=True):
    """`node_ips`: the node's addresses, primary family first. `capacity` overrides what is measured (a namespace node
    has a share of its host), with resource names and quantities as in a Node's status; so does `reserved`, which is
    kept from pods. `cgroup_parent`: on hosts with cgroup v2, the subtree that belongs to this user. `cloud_provider`:
    "external" where a cloud controller completes this node: until then it is tainted, and afterwards its addresses are
    that one's to say."""

    node_name: str
    node_ips: list[str]
    kubeconfig: str = "/etc/sampan/kubelet.kubeconfig"
    root_dir: str = "/var/lib/sampan/kubelet"
    log_dir: str = "/var/log/pods"
    podman_socket: str = ""  # the user's own, where empty
    porter_socket: str = "/run/sampan/porter.sock"
    static_pod_path: str = ""
    sandbox_image: str = "sampan.local/pause:1"
    cluster_dns: list[str] = field(default_factory=list)
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    seccomp_dir: str = "/var/lib/sampan/kubelet/seccomp"
    node_labels: dict[str, str] = field(default_factory=dict)
    node_taints: list[Taint] = field(default_factory=list)
    provider_id: str = ""
    cloud_provider: Literal["", "external"] = ""
    capacity: dict[str, str] = field(default_factory=dict)
    reserved: dict[str, str] = field(default_factory=dict)
    pods_max: int = 110
    pod_pids_max: int = 0  # per container; 0 is no limit
    cgroup_parent: str = ""
    register_node: bool = True
    lease_duration_s: int = 40
    lease_renew_s: float = 10.0
    status_report_s: float = 300.0  # without a change; a change is reported at the next look
    status_look_s: float = 10.0
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    address: str = ""  # the server listens on all addresses where empty
    port: int = 10250
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 10248
    tls_cert_file: str = "/etc/sampan/pki/kubelet.crt"
    tls_private_key_file: str = "/etc/sampan/pki/kubelet.key"
    client_ca_file: str = "/etc/sampan/pki/ca.crt"

    @property
    def runtime_socket(self) -> Path:
        runtime_dir = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        return Path(self.podman_socket or f"{runtime_dir}/podman/podman.sock")
