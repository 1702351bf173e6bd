"""`./sampan store` of a running lab: a backup disturbs nobody, a restored store is followed by the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import Lab, eventually
from tests.e2e.manifests import deployment, web


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = f"store{os.getpid()}"
    made = Lab(name, tmp_path_factory.mktemp("lab") / "kubeconfig")
    try:
        made.sampan("up", "--name", name, "--workers", "0", "--kubeconfig", str(made.kubeconfig), timeout_s=900)
        eventually(lambda: made.kubectl("get", "serviceaccount", "default"), "the default service account")
        yield made
    finally:
        made.sampan("down", "--name", name)


def containers(lab: Lab) -> str:
    command = ("podman", "ps", "--format", "{{.Names}}")
    return lab.sampan("ssh", "--name", lab.name, "--user", "sampan", "control-plane-1", *command)


def test_a_store_is_restored_and_the_nodes_follow(small: Lab, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    small.kubectl("create", "configmap", "then", "--from-literal=key=value")
    small.kubectl("apply", "-f", "-", stdin=deployment("kept", web("first")))
    small.kubectl("rollout", "status", "deployment/kept", "--timeout=90s")
    assert "the store of lab" in small.sampan("store", "backup", "--name", small.name, str(file))
    assert file.stat().st_mode & 0o777 == 0o600

    small.kubectl("delete", "configmap", "then")
    small.kubectl("create", "configmap", "since", "--from-literal=key=value")
    small.kubectl("apply", "-f", "-", stdin=deployment("since", web("second")))
    small.kubectl("rollout", "status", "deployment/since", "--timeout=90s")
    kept = [name for name in containers(small).split() if name.startswith("k8s_kept_")]
    assert kept and "k8s_since_" in containers(small)

    told = small.sampan("store", "restore", "--name", small.name, str(file))
    assert f"{file} is restored; the store goes on from revision" in " ".join(told.split())
    assert small.kubectl("get", "configmap", "then", "-o", "jsonpath={.data.key}") == "value"
    assert "since" not in small.kubectl("get", "configmaps,deployments", "-o", "name")
    eventually(lambda: "k8s_since_" not in containers(small), "what the store does not know ends")
    assert [name for name in containers(small).split() if name.startswith("k8s_kept_")] == kept
    small.kubectl("scale", "deployment/kept", "--replicas=2")
    small.kubectl("rollout", "status", "deployment/kept", "--timeout=90s")
    assert "is sound, at revision" in small.sampan("store", "check", "--name", small.name)


def test_what_is_no_backup_is_refused_and_the_server_goes_on(small: Lab, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_bytes(b"no database")
    before = small.kubectl("get", "configmaps", "-o", "name")
    told = small.sampan("store", "restore", "--name", small.name, str(file), check=False)
    assert "not restored, it is damaged" in " ".join(told.split())
    assert small.kubectl("get", "configmaps", "-o", "name") == before
    leftover = small.sampan("ssh", "--name", small.name, "control-plane-1", "ls", "-A", "/var/lib/sampan")
    assert ".backup" not in leftover
    assert "there is no lab 'nowhere'" in small.sampan("store", "check", "--name", "nowhere", check=False)
