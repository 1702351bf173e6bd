"""Kinds: rules that recorded answers do not show: formats of duration, generations, what an update keeps, QoS."""

from typing import Any

import pytest

from orchestrator.api.kinds import metadata, pod_faults, podspec, qos, table
from orchestrator.api.kinds.registry import rules
from orchestrator.api.resources import DEPLOYMENTS, IPADDRESSES, NODES, PODS, ROWS, SERVICES, Resource


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (12600, "3h30m"), (28800, "8h"), (172799, "47h"), (172800, "2d"),
        (180000, "2d2h"), (691200, "8d"), (63072000, "2y"), (66000000, "2y33d"), (300000000, "9y"),
    ],
)  # fmt: skip
def test_duration(seconds: int, text: str) -> None:
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1", "IfNotPresent"), ("reg:5000/x", "Always"),
        ("reg:5000/x:1", "IfNotPresent"), ("x@sha256:" + 64 * "0", "IfNotPresent"),
        ("x:latest@sha256:" + 64 * "0", "Always"), ("*", "IfNotPresent"), ("x:latest@sha256:0", "IfNotPresent"),
    ],
)  # fmt: skip
def test_pull_policy(image: str, policy: str) -> None:
    assert podspec.pull_policy(image) == policy


def resources(**kinds: dict[str, str]) -> dict[str, Any]:
    return {"name": "c", "resources": kinds}


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([resources()], "BestEffort"),
        ([resources(requests={"cpu": "0"})], "BestEffort"),
        ([resources(requests={"cpu": "1"})], "Burstable"),
        ([resources(limits=BOTH)], "Guaranteed"),
        ([resources(limits=BOTH, requests={"cpu": "1000m", "memory": "1024Mi"})], "Guaranteed"),
        ([resources(limits=BOTH, requests={"cpu": "500m"})], "Burstable"),
        ([resources(limits=BOTH), resources()], "Burstable"),
    ],
)
def test_qos_class(containers: list[dict[str, Any]], expected: str) -> None:
    assert qos.qos_class({"containers": containers}) == expected


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        pytest.param({"spec": {"replicas": 2}}, 2, id="a changed spec counts"),
        pytest.param({"metadata": {"name": "a", "labels": {"a": "b"}}}, 1, id="labels do not"),
        pytest.param({"status": {"replicas": 9}}, 1, id="the status does not"),
    ],
)
def test_generation(change: dict[str, Any], generation: int) -> None:
    rule = rules(DEPLOYMENTS)
    old: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"replicas": 1}}
    rule.prepare_create(old, uid="u", now="2026-01-01T00:00:00Z")
    assert old["metadata"]["generation"] == 1
    new: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"replicas": 1}, **change}
    rule.prepare_update(new, old)
    assert new["metadata"]["generation"] == generation
    assert new["metadata"]["uid"] == "u"


def test_a_status_update_changes_the_status_alone() -> None:
    old = {"metadata": {"name": "a", "labels": {"a": "b"}, "uid": "u"}, "spec": {"replicas": 1}, "status": {}}
    new: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"replicas": 5}, "status": {"replicas": 1}}
    rules(DEPLOYMENTS).prepare_update(new, old, "status")
    assert new["spec"] == {"replicas": 1}
    assert new["status"] == {"replicas": 1}
    assert new["metadata"]["labels"] == {"a": "b"}


def test_the_kubelet_registers_with_a_status() -> None:
    node: dict[str, Any] = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}}
    rules(NODES).default(node)
    rules(NODES).prepare_create(node)
    assert node["status"] == {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}


def test_host_ports_follow_container_ports_on_the_host_network() -> None:
    pod: dict[str, Any] = {"spec": {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 80}]}]}}
    podspec.default_pod(pod)
    assert pod["spec"]["containers"][0]["ports"][0]["hostPort"] == 80


def test_annotations_are_bounded() -> None:
    causes = metadata.check_annotations({"a": "x" * metadata.ANNOTATIONS_BYTES_MAX}, "metadata.annotations")
    assert [cause.message for cause in causes] == ["Too long: may not be more than 262144 bytes"]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param({}, {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}, id="left out means the same"),
        pytest.param({"type": "ExternalName", "externalName": "x"}, {}, id="a name has no address"),
        pytest.param(
            {"clusterIP": "10.0.0.2"}, {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}, id="one field is enough"
        ),
    ],
)
def test_service_addresses_survive_an_update(wish: dict[str, Any], expected: dict[str, Any]) -> None:
    old = {
        "metadata": {"name": "a"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]},
    }
    new: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], **wish}}
    rules(SERVICES).default(new)
    rules(SERVICES).prepare_update(new, old)
    assert {name: value for name, value in new["spec"].items() if name.startswith("clusterIP")} == expected


HELD = [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]


@pytest.mark.parametrize(
    ("wish", "ports", "expected"),
    [
        pytest.param({}, [{"name": "a", "port": 80}, {"name": "b", "port": 81}], [30001, 30002], id="left-out"),
        pytest.param({}, [{"name": "a", "port": 8080}], [30001], id="another-port-of-the-name"),
        pytest.param({}, [{"name": "c", "port": 80}], [None], id="another-name"),
        pytest.param(
            {}, [{"name": "a", "port": 80, "nodePort": 30002}, {"name": "b", "port": 81}], [30002, None], id="taken"
        ),
        pytest.param(
            {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
            [{"name": "a", "port": 80}, {"name": "c", "port": 82}],
            [30001, None],
            id="no-more-are-chosen-but-none-taken-away",
        ),
        pytest.param({"type": "ClusterIP"}, HELD, [None, None], id="a-type-without"),
        pytest.param(
            {"type": "ClusterIP"}, [{"name": "a", "port": 8080, "nodePort": 30001}], [None], id="also-of-a-changed-port"
        ),
        pytest.param(
            {"type": "ClusterIP"}, [{"name": "a", "port": 80, "nodePort": 30009}], [30009], id="asked-for-and-refused"
        ),
        pytest.param({"type": "ExternalName", "externalName": "x"}, HELD, [None, None], id="a-name"),
    ],
)
def test_node_ports_of_a_service_stay_with_their_names(
    wish: dict[str, Any], ports: list[dict[str, Any]], expected: list[int | None]
) -> None:
    def service(ports: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
        base = {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}
        made = {"metadata": {"name": "a"}, "spec": base | spec | {"ports": [dict(port) for port in ports]}}
        rules(SERVICES).default(made)
        return made

    new = service(ports, **wish)
    rules(SERVICES).prepare_update(new, service(HELD))
    assert [port.get("nodePort") for port in new["spec"]["ports"]] == expected


LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param(LOCAL, [], id="the-same"),
        pytest.param({**LOCAL, "healthCheckNodePort": None}, [], id="left-out-means-the-same"),
        pytest.param({**LOCAL, "healthCheckNodePort": 32001}, ["Forbidden: field is immutable"], id="another"),
        pytest.param({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, [], id="no-longer-needed"),
        pytest.param({"type": "ClusterIP"}, [], id="another-type"),
    ],
)
def test_the_health_check_port_of_a_service_stays(wish: dict[str, Any], expected: list[str]) -> None:
    def service(spec: dict[str, Any]) -> dict[str, Any]:
        base = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}
        made: dict[str, Any] = {"metadata": {"name": "a", "namespace": "b"}, "spec": base | spec}
        rules(SERVICES).default(made)
        return made

    old, new = service(LOCAL), service({name: value for name, value in wish.items() if value is not None})
    rules(SERVICES).prepare_update(new, old)
    assert [cause.message for cause in rules(SERVICES).validate_update(new, old)] == expected


RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
MODE, HINTS = "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"
NO_BALANCER = "Forbidden: may only be used when `type` is 'LoadBalancer'"


@pytest.mark.parametrize(
    ("annotations", "spec", "field", "message"),
    [
        pytest.param({RANGES: "10.0.0.0/8, fd00::/8"}, {"type": "LoadBalancer"}, "", "", id="ranges"),
        pytest.param({RANGES: " "}, {"type": "LoadBalancer"}, "", "", id="no-ranges"),
        pytest.param({RANGES: "10.0.0.0/8"}, {"type": "NodePort"}, f"[{RANGES}]", NO_BALANCER, id="no-balancer"),
        pytest.param({RANGES: "10.0.0.0/8,x"}, {"type": "LoadBalancer"}, f"[{RANGES}]", 'Invalid value: "x"', id="bad"),
        pytest.param(
            {RANGES: "x"}, {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}, "", "",
            id="the-field-beats-the-annotation",
        ),
        pytest.param({MODE: "Auto", HINTS: "Auto"}, {}, "", "", id="both-say-the-same"),
        pytest.param({HINTS: "Auto"}, {}, "", "", id="the-older-alone"),
        pytest.param(
            {MODE: "Auto", HINTS: "Disabled"}, {}, f"[{MODE}]",
            f'Invalid value: "Auto": must match annotations[{HINTS}] when both are specified', id="they-differ",
        ),
    ],
)  # fmt: skip
def test_what_annotations_of_a_service_say_is_checked(
    annotations: dict[str, str], spec: dict[str, Any], field: str, message: str
) -> None:
    service: dict[str, Any] = {
        "metadata": {"name": "a", "namespace": "b", "annotations": annotations},
        "spec": {"ports": [{"port": 80}], **spec},
    }
    rules(SERVICES).default(service)
    found = [(cause.field, cause.message) for cause in rules(SERVICES).validate_create(service)]
    assert [name for name, _ in found] == ([f"metadata.annotations{field}"] if field else [])
    assert all(text.startswith(message) for _, text in found)


@pytest.mark.parametrize("resource", ROWS, ids=lambda row: f"{row.api_version} {row.kind}")
def test_every_kind_can_handle_an_empty_object(resource: Resource) -> None:
    rule, obj = rules(resource), {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}}
    rule.default(obj)
    rule.prepare_create(obj)
    rule.validate_create(obj)
    unnamed = 1 if resource is IPADDRESSES else 0  # its age has no column, as upstream
    assert len(rule.cells(obj, 0.0)) == len(rule.columns) + unnamed
    assert rule.resource.kind == resource.kind


def test_pods_keep_their_class_of_service() -> None:
    old = {"status": {"qosClass": "Burstable"}, "metadata": {}}
    causes = rules(PODS).status_faults({"status": {"qosClass": "Guaranteed"}, "metadata": {}}, old)
    assert [cause.field for cause in causes] == ["status.qosClass"]


def test_every_column_has_a_definition() -> None:
    """Each description is text, or the description of a field that is published."""
    for resource in ROWS:
        for column in rules(resource).columns:
            assert isinstance(column.to_json(resource.group_resource)["description"], str)


def test_a_negative_grace_period_of_a_pod_is_one_second() -> None:
    spec = {"containers": [], "terminationGracePeriodSeconds": -7}
    made: dict[str, Any] = {"spec": dict(spec)}
    podspec.default_pod(made)
    assert made["spec"]["terminationGracePeriodSeconds"] == 1
    podspec.default_spec(spec)
    assert spec["terminationGracePeriodSeconds"] == -7, "of a template"


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ({"hostnameOverride": "a.b.example"}, []),
        ({"hostnameOverride": "Not_A_Name"}, ["FieldValueInvalid"]),
        ({"hostnameOverride": "a" * 65}, ["FieldValueTooLong"]),
        ({"hostnameOverride": "a", "setHostnameAsFQDN": True, "hostNetwork": True}, ["FieldValueForbidden"] * 2),
    ],
)
def test_the_name_that_a_pod_sees(spec: dict[str, Any], faults: list[str]) -> None:
    found = pod_faults.spec({"containers": [], **spec}, "spec")
    assert [cause.reason for cause in found if cause.field == "spec.hostnameOverride"] == faults
