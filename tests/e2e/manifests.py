"""Manifests that several e2e tests use, as YAML text or objects."""

from __future__ import annotations

from typing import Any

import yaml


def deployment(name: str, container: dict[str, Any], replicas: int = 1, **spec: Any) -> str:
    """A Deployment of one container whose pods carry `app: NAME`."""
    pod = {"containers": [{"name": name, **container}], "terminationGracePeriodSeconds": 10, **spec.pop("pod", {})}
    return dump(
        "apps/v1",
        "Deployment",
        name,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            **spec,
        },
    )


def service(name: str, port: int, target: int, **spec: Any) -> str:
    base = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]}
    return dump("v1", "Service", name, spec=base | spec)


def pod(name: str, container: dict[str, Any], **spec: Any) -> str:
    base = {"containers": [{"name": name, **container}], "terminationGracePeriodSeconds": 2}
    return dump("v1", "Pod", name, spec=base | spec)


def dump(api_version: str, kind: str, name: str, **body: Any) -> str:
    return yaml.safe_dump({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}) + "---\n"


# Ready when it answers: on an emulated machine it has been started a while before that.
ECHO = {
    "image": "sampan.local/echo:1",
    "ports": [{"containerPort": 8080}],
    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
}


def web(version: str) -> dict[str, Any]:
    """A container that answers its version over HTTP, is ready only when it does, and goes on serving for a moment
    when asked to stop, as one does whose clients must not notice."""
    script = "mkdir -p /tmp/www; echo $VERSION > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
    return {
        "image": "sampan.local/busybox:1",
        "command": ["sh", "-c", script],
        "env": [{"name": "VERSION", "value": version}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }


def client() -> str:
    """A pod to exec into."""
    return pod("client", {"image": "sampan.local/busybox:1", "command": ["sleep", "3600"]})
