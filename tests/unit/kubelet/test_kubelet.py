"""The whole kubelet against an API server in memory, on a fake runtime and porter: what happens to pods over time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.api import conditions, meta
from orchestrator.api.resources import CONFIGMAPS, LEASES, NODES, PODS
from orchestrator.kubelet.runtime.interface import State
from tests.unit.kubelet.machine import LIMIT_S, Machine, container, is_ready, phase


async def test_a_node_registers_and_renews_its_lease(machine: Machine) -> None:
    async with machine.kubelet():
        node = await machine.client.get(NODES, "n1")
        assert conditions.is_true(node, "Ready")
        assert node["status"]["capacity"]["cpu"] == "4"
        assert "RestartAllContainersOnContainerExits" in node["status"]["declaredFeatures"]
        assert [entry["address"] for entry in node["status"]["addresses"]] == ["192.168.0.7", "fd00::7", "n1"]
        async with asyncio.timeout(LIMIT_S):
            while not (leases := (await machine.client.list(LEASES, "kube-node-lease")).items):
                await asyncio.sleep(0.01)
            while not (owners := meta.owner_references(leases[0])):  # it may have been there before the node
                await asyncio.sleep(0.01)
                leases = (await machine.client.list(LEASES, "kube-node-lease")).items
        assert [(owner["kind"], owner["uid"]) for owner in owners] == [("Node", meta.uid(node))]


async def test_a_node_that_was_deleted_registers_again(machine: Machine) -> None:
    async with machine.kubelet():
        before = meta.uid(await machine.client.get(NODES, "n1"))
        await machine.client.delete(NODES, "n1")
        async with asyncio.timeout(LIMIT_S):
            while not (nodes := (await machine.client.list(NODES)).items):
                await asyncio.sleep(0.01)
        assert meta.uid(nodes[0]) != before


async def test_a_node_that_was_drained_and_deleted_stays_away_until_its_kubelet_starts(machine: Machine) -> None:
    async with machine.kubelet() as kubelet:
        await machine.client.patch(NODES, "n1", "", {"spec": {"unschedulable": True}})
        async with asyncio.timeout(LIMIT_S):
            while not ((kubelet.reporter.node or {}).get("spec") or {}).get("unschedulable"):
                await asyncio.sleep(0.01)
        await machine.client.delete(NODES, "n1")
        async with asyncio.timeout(LIMIT_S):
            while kubelet.reporter.node is not None:
                await asyncio.sleep(0.01)
        await kubelet.reporter.report()
        assert (await machine.client.list(NODES)).items == []
    async with machine.kubelet():
        assert [meta.name(node) for node in (await machine.client.list(NODES)).items] == ["n1"]


async def test_a_pod_runs_and_is_removed(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create()
        pod = await machine.until(is_ready)
        assert pod["status"]["podIP"] == "10.244.1.2"
        assert machine.runtime.log[:3] == ["run sandbox web/0", "create c/0", "start c/0"]
        uid = meta.uid(pod)
        await machine.client.delete(PODS, "web", "default", grace_period_s=5)
        await machine.until_gone()
        assert machine.runtime.log[3:] == ["stop c/0 5s", "remove sandbox web/0"]
        assert uid in machine.porter.purged
        assert not machine.porter.attached


async def test_a_container_is_restarted_then_backs_off(machine: Machine) -> None:
    machine.runtime.behaviour["c"] = 1
    async with machine.kubelet():
        await machine.create()
        pod = await machine.until(lambda pod: "CrashLoopBackOff" in str(pod.get("status")))
        status = container(pod)
        assert status["restartCount"] == 1
        assert status["lastState"]["terminated"]["exitCode"] == 1
        assert pod["status"]["phase"] == "Running"
        assert (await machine.event("BackOff"))["message"].startswith(
            "Back-off restarting failed container c in pod web_"
        )


async def test_a_pod_that_never_restarts_succeeds(machine: Machine) -> None:
    machine.runtime.behaviour["c"] = 0
    async with machine.kubelet():
        await machine.create(restartPolicy="Never")
        pod = await machine.until(phase("Succeeded"))
        assert container(pod)["state"]["terminated"]["reason"] == "Completed"
        async with asyncio.timeout(LIMIT_S):
            while "stop sandbox web" not in machine.runtime.log:
                await asyncio.sleep(0.01)
        await machine.client.delete(PODS, "web", "default")
        await machine.until_gone()


async def test_a_missing_image(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create(containers=[{"name": "c", "image": "nosuch:1"}])
        await machine.until(lambda pod: "ImagePullBackOff" in str(pod.get("status")))
        assert (await machine.event("Failed"))["type"] == "Warning"


async def test_a_missing_config_map_is_waited_for(machine: Machine) -> None:
    volumes = [{"name": "v", "configMap": {"name": "later"}}]
    async with machine.kubelet():
        await machine.create(volumes=volumes)
        assert 'configmap "later" not found' in (await machine.event("FailedMount"))["message"]
        await machine.client.create(
            CONFIGMAPS, {"metadata": {"name": "later", "namespace": "default"}, "data": {"k": "v"}}
        )
        await machine.until(is_ready)


async def test_a_volume_follows_its_config_map(machine: Machine) -> None:
    await machine.client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}, "data": {"k": "old"}})
    async with machine.kubelet():
        await machine.create(volumes=[{"name": "v", "configMap": {"name": "c"}}])
        pod = await machine.until(is_ready)
        file = Path(machine.config.root_dir, "pods", meta.uid(pod), "volumes/kubernetes.io~configmap/v/k")
        assert file.read_text() == "old"
        await machine.client.patch(CONFIGMAPS, "c", "default", {"data": {"k": "new"}})
        async with asyncio.timeout(LIMIT_S):
            while file.read_text() != "new":
                await asyncio.sleep(0.01)


async def test_a_new_kubelet_touches_nothing(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create()
        before = await machine.until(is_ready)
    done = list(machine.runtime.log)
    async with machine.kubelet() as kubelet:
        async with asyncio.timeout(LIMIT_S):
            while kubelet.pods.get("default", "web") is None:
                await asyncio.sleep(0.01)
        await machine.create("second")
        await machine.until(is_ready, "second")
        assert machine.runtime.log[: len(done)] == done
        assert not [line for line in machine.runtime.log[len(done) :] if "web" in line or line.startswith("stop")]
        assert (await machine.pod())["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_pods_come_back_after_the_node_was_killed(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create()
        await machine.until(is_ready)
    machine.runtime.lose_everything()
    async with machine.kubelet():
        pod = await machine.until(lambda pod: is_ready(pod) and container(pod)["restartCount"] == 1)
        assert container(pod)["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_what_was_deleted_meanwhile_is_removed(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create()
        pod = await machine.until(is_ready)
    await machine.client.delete(PODS, "web", "default", grace_period_s=0)
    async with machine.kubelet():
        async with asyncio.timeout(LIMIT_S):
            while await machine.runtime.pods():
                await asyncio.sleep(0.01)
        assert meta.uid(pod) in machine.porter.purged


async def test_a_pod_too_big_for_the_node_fails(machine: Machine) -> None:
    big = [{"name": "c", "image": "busybox:1", "resources": {"requests": {"cpu": "5"}}}]
    async with machine.kubelet():
        await machine.create(containers=big)
        pod = await machine.until(phase("Failed"))
        assert pod["status"]["reason"] == "OutOfcpu"
        assert "requested: 5000, used: 0, capacity: 4000" in pod["status"]["message"]
        assert not machine.runtime.log


async def test_a_deadline_ends_the_pod(machine: Machine) -> None:
    async with machine.kubelet():
        await machine.create(activeDeadlineSeconds=1)
        await machine.until(is_ready)
        pod = await machine.until(phase("Failed"))
        assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_initialization_in_order(machine: Machine) -> None:
    machine.runtime.behaviour |= {"one": 0, "two": 0}
    inits = [{"name": name, "image": "busybox:1"} for name in ("one", "two")]
    async with machine.kubelet():
        await machine.create(initContainers=inits)
        pod = await machine.until(is_ready)
        started = [line.split()[1] for line in machine.runtime.log if line.startswith("start")]
        assert started == ["one/0", "two/0", "c/0"]
        assert all(status["ready"] for status in pod["status"]["initContainerStatuses"])


async def test_a_rule_runs_all_containers_again(machine: Machine) -> None:
    """In the same sandbox, initialization first; how each ended is told, and how often it was started."""
    machine.runtime.behaviour["init"] = 0
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]
    source = {"name": "c", "image": "busybox:1", "restartPolicy": "Never", "restartPolicyRules": rules}
    containers = [source, {"name": "other", "image": "busybox:1"}]
    inits = [{"name": "init", "image": "busybox:1"}]
    async with machine.kubelet():
        await machine.create(containers=containers, initContainers=inits, restartPolicy="Never")
        pod = await machine.until(is_ready)
        assert not conditions.is_true(pod, "AllContainersRestarting")
        running = (await machine.runtime.pod(meta.uid(pod))).latest("c")
        assert running is not None
        machine.runtime.exit(running.id, 42)
        pod = await machine.until(lambda pod: is_ready(pod) and container(pod)["restartCount"] == 1)
        started = [line.split()[1] for line in machine.runtime.log if line.startswith("start")]
        assert started == ["init/0", "c/0", "other/0", "init/1", "c/1", "other/1"]
        assert [line for line in machine.runtime.log if "sandbox" in line] == ["run sandbox web/0"]
        assert "stop other/0 2s" in machine.runtime.log
        statuses = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
        assert [status["restartCount"] for status in statuses] == [1, 1, 1]
        assert {status["lastState"]["terminated"]["reason"] for status in statuses} == {"RestartingAllContainers"}
        assert pod["status"]["phase"] == "Running"
        assert conditions.is_true(pod, "Initialized")


async def test_a_failed_liveness_probe_restarts_the_container(machine: Machine) -> None:
    probe = {"tcpSocket": {"port": 1, "host": "127.0.0.1"}, "periodSeconds": 1, "failureThreshold": 1}
    containers = [{"name": "c", "image": "busybox:1", "livenessProbe": probe}]
    async with machine.kubelet():
        await machine.create(containers=containers, terminationGracePeriodSeconds=1)
        await machine.until(
            lambda pod: bool(pod.get("status", {}).get("containerStatuses")) and container(pod)["restartCount"] == 1
        )
        assert (await machine.event("Unhealthy"))["message"].startswith("Liveness probe failed: dial tcp 127.0.0.1:1")


async def test_a_pod_that_winds_down_may_become_unready(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its readiness probe goes on, and what it finds is told while its containers still end."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = {"tcpSocket": {"port": port, "host": "127.0.0.1"}, "periodSeconds": 1, "failureThreshold": 1}
    may_end, stop = asyncio.Event(), machine.runtime.stop_container

    async def slow(container_id: str, grace_s: int) -> None:
        await may_end.wait()
        await stop(container_id, grace_s)

    monkeypatch.setattr(machine.runtime, "stop_container", slow)
    async with machine.kubelet():
        await machine.create(containers=[{"name": "c", "image": "busybox:1", "readinessProbe": probe}])
        await machine.until(is_ready)
        await machine.client.delete(PODS, "web", "default", grace_period_s=60)
        server.close()
        await machine.until(lambda pod: meta.is_deleting(pod) and not is_ready(pod))
        may_end.set()
        await machine.until_gone()


async def test_a_static_pod_has_a_mirror(machine: Machine) -> None:
    manifest = Path(machine.config.static_pod_path, "s.yaml")
    manifest.write_text("kind: Pod\nmetadata: {name: s}\nspec: {containers: [{name: c, image: 'busybox:1'}]}\n")
    async with machine.kubelet():
        mirror = await machine.until(is_ready, "s-n1")
        await machine.client.delete(PODS, "s-n1", "default", grace_period_s=0)
        again = await machine.until(is_ready, "s-n1")
        assert meta.uid(again) != meta.uid(mirror)
        assert machine.runtime.log.count("start c/0") == 1
        manifest.unlink()
        await machine.until_gone("s-n1")
        async with asyncio.timeout(LIMIT_S):
            while await machine.runtime.pods():
                await asyncio.sleep(0.01)


async def test_an_exec_hook_runs_before_the_stop(machine: Machine) -> None:
    hook = {"preStop": {"sleep": {"seconds": 0}}, "postStart": {"exec": {"command": ["true"]}}}
    containers = [{"name": "c", "image": "busybox:1", "lifecycle": hook}]
    async with machine.kubelet():
        pod = await machine.create(containers=containers)
        await machine.until(is_ready)
        state = await machine.runtime.pod(meta.uid(pod))
        assert state.containers[0].state is State.RUNNING
        await machine.client.delete(PODS, "web", "default", grace_period_s=3)
        await machine.until_gone()
        assert "stop c/0 3s" in machine.runtime.log
