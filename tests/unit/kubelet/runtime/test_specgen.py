"""Podman's specifications, made from ours."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.kubelet.runtime import names, specgen
from orchestrator.kubelet.runtime.interface import ContainerSpec, Limits, Mount, SandboxSpec, Security

SANDBOX = SandboxSpec(uid="u-1", name="web", namespace="ns", attempt=2, image="pause:1", hostname="web-0")
CONTAINER = ContainerSpec(
    sandbox=SANDBOX,
    sandbox_id="s",
    name="c",
    kind="app",
    attempt=3,
    spec_hash="h",
    image="busybox:1",
    log_path="/l/0.log",
)


def test_a_pod_has_no_network_and_shares_what_pods_share() -> None:
    made = specgen.pod(SANDBOX)
    assert made["name"] == "k8s_POD_web_ns_u-1_2"
    assert made["netns"] == {"nsmode": "none"}
    assert made["shared_namespaces"] == ["ipc", "net", "uts"]
    assert made["hostname"] == "web-0"
    assert made["labels"][names.POD_UID] == "u-1"


def test_host_namespaces() -> None:
    spec = replace(SANDBOX, host_network=True, host_pid=True, host_ipc=True, share_pid=True)
    made = specgen.pod(spec)
    assert made["netns"] == {"nsmode": "host"}
    assert made["shared_namespaces"] == []
    assert "hostname" not in made
    assert made["utsns"] == {"nsmode": "host"}, "the node's host name, not one that Podman makes of the sandbox's"
    container = specgen.container(replace(CONTAINER, sandbox=spec), limits_here=False)
    assert container["pidns"] == container["ipcns"] == container["netns"] == {"nsmode": "host"}


def test_command_and_arguments_are_the_image_s_unless_given() -> None:
    made = specgen.container(CONTAINER, limits_here=True)
    assert "entrypoint" not in made
    assert "command" not in made
    given = specgen.container(replace(CONTAINER, entrypoint=("a",), command=()), limits_here=True)
    assert (given["entrypoint"], given["command"]) == (["a"], [])


def test_limits_are_podman_s_only_with_cgroup_v2() -> None:
    limited = replace(CONTAINER, limits=Limits(memory_bytes=64, cpu_quota_us=50, cpu_shares=256, pids=9))
    assert "resource_limits" not in specgen.container(limited, limits_here=False)
    assert specgen.container(limited, limits_here=True)["resource_limits"] == {
        "cpu": {"shares": 256, "quota": 50, "period": 100_000},
        "memory": {"limit": 64, "swap": 64},
        "pids": {"limit": 9},
    }


def test_privileged_needs_nothing_more() -> None:
    security = Security(is_privileged=True, capabilities_add=("CAP_X",), seccomp_profile="unconfined", user="0")
    made = specgen.container(replace(CONTAINER, security=security), limits_here=True)
    assert made["privileged"]
    assert "cap_add" not in made
    assert "seccomp_profile_path" not in made


def test_mounts() -> None:
    mounts = (
        Mount(source="/a", destination="/b", read_only=True, propagation="rslave"),
        Mount(source="i:1", destination="/i", is_image=True, read_only=True),
        Mount(source="tmpfs", destination="/t", is_tmpfs=True),
    )
    made = specgen.container(replace(CONTAINER, mounts=mounts), limits_here=True)
    assert [mount["options"] for mount in made["mounts"]] == [["rbind", "ro", "rslave"], ["rw", "mode=1777"]]
    assert made["image_volumes"] == [{"Source": "i:1", "Destination": "/i", "ReadWrite": False}]


def test_names_come_apart_again() -> None:
    name = names.Name("c", "web-0", "ns", "u-1", 3)
    assert names.parse(str(name)) == name
    assert names.parse("/" + str(name)) == name
    for other in ("web", "k8s_a_b", "k8s_c_web_ns_u_x", ""):
        assert names.parse(other) is None
