"""Bad manifests get kube-apiserver's reason and field path, and change nothing."""

from collections.abc import Callable

import pytest

from tests.e2e.manifests import dump

GOOD = {
    "replicas": 1,
    "selector": {"matchLabels": {"app": "x"}},
    "template": {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "sampan.local/pause:1"}]},
    },
}


def pod_spec(**container: object) -> str:
    return dump("v1", "Pod", "p", spec={"containers": [{"name": "c", "image": "sampan.local/pause:1", **container}]})


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        pytest.param(
            dump("apps/v1", "Deployment", "d", spec=GOOD | {"replicaz": 3}),
            'strict decoding error: unknown field "spec.replicaz"',
            id="unknown-field",
        ),
        pytest.param(
            dump("apps/v1", "Deployment", "d", spec=GOOD | {"replicas": "three"}),
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            id="wrong-type",
        ),
        pytest.param(
            pod_spec(resources={"limits": {"memory": "12Gx"}}),
            "quantities must match the regular expression",
            id="bad-quantity",
        ),
        pytest.param(dump("v1", "Pod", "p", spec={"containers": []}), "spec.containers: Required value", id="required"),
        pytest.param(
            pod_spec(ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
            'spec.containers[0].ports[1].name: Duplicate value: "a"',
            id="duplicate",
        ),
        pytest.param(
            pod_spec(ports=[{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            id="out-of-range",
        ),
        pytest.param(
            dump("v1", "ConfigMap", "Not_Good", data={}),
            'metadata.name: Invalid value: "Not_Good": a lowercase RFC 1123 subdomain must consist of',
            id="bad-name",
        ),
        pytest.param(
            dump("apps/v1", "Deployment", "d", spec=GOOD | {"selector": {"matchLabels": {"app": "other"}}}),
            "`selector` does not match template `labels`",
            id="selector-does-not-match",
        ),
    ],
)
def test_refused(kubectl: Callable[..., str], manifest: str, said: str) -> None:
    answer = kubectl("create", "-f", "-", stdin=manifest, check=False)
    assert said in answer, answer
    assert kubectl("get", "pods,deployments,configmaps", "-o", "name").split() == ["configmap/kube-root-ca.crt"]


def test_an_immutable_field_keeps_its_value(kubectl: Callable[..., str]) -> None:
    kubectl("create", "-f", "-", stdin=dump("apps/v1", "Deployment", "d", spec=GOOD))
    changed = GOOD | {"selector": {"matchLabels": {"app": "x", "tier": "new"}}}
    changed["template"] = {**GOOD["template"], "metadata": {"labels": {"app": "x", "tier": "new"}}}  # type: ignore[dict-item]
    answer = kubectl("replace", "-f", "-", stdin=dump("apps/v1", "Deployment", "d", spec=changed), check=False)
    assert "spec.selector: Invalid value" in answer
    assert "field is immutable" in answer
    assert kubectl("get", "deployment", "d", "-o", "jsonpath={.spec.selector.matchLabels}") == '{"app":"x"}'
