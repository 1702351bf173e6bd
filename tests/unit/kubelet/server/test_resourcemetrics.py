"""What metrics-server scrapes."""

from __future__ import annotations

from orchestrator.kubelet.server import resourcemetrics

TIME = "2026-01-02T03:04:05Z"
USED = {
    "cpu": {"time": TIME, "usageCoreNanoSeconds": 1_500_000_000},
    "memory": {"time": TIME, "usageBytes": 9, "workingSetBytes": 4096},
}


def test_node_pods_and_containers_are_told() -> None:
    pod = {
        "podRef": {"name": "web", "namespace": "shop", "uid": "u"},
        "containers": [{"name": "c", "startTime": "2026-01-02T03:04:00Z", **USED}],
        **USED,
    }
    idle = {"podRef": {"name": "idle", "namespace": "shop", "uid": "v"}, "containers": []}
    found = [line for line in resourcemetrics.lines({"node": USED, "pods": [pod, idle]}) if line[0] != "#"]
    at = "1767323045000"
    assert found == [
        f'container_cpu_usage_seconds_total{{container="c",namespace="shop",pod="web"}} 1.5 {at}',
        f'container_memory_working_set_bytes{{container="c",namespace="shop",pod="web"}} 4096 {at}',
        f'container_start_time_seconds{{container="c",namespace="shop",pod="web"}} 1767323040 {at}',
        f"node_cpu_usage_seconds_total 1.5 {at}",
        f"node_memory_working_set_bytes 4096 {at}",
        f'pod_cpu_usage_seconds_total{{namespace="shop",pod="web"}} 1.5 {at}',
        f'pod_memory_working_set_bytes{{namespace="shop",pod="web"}} 4096 {at}',
        "resource_scrape_error 0",
    ]
