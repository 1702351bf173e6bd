"""The guestbook case: a front end finds its back end by DNS name, with configuration and a secret injected."""

from collections.abc import Callable

from tests.e2e.lab import eventually
from tests.e2e.manifests import ECHO, client, deployment, dump, pod, service

BOOK = """#!/bin/sh
echo "Content-Type: text/plain"; echo
echo "$GREETING"; cat /etc/guestbook/password; echo
wget -qO- http://backend:8080/
"""


def test_guestbook(kubectl: Callable[..., str]) -> None:
    front = {
        "image": "sampan.local/busybox:1",
        "command": ["sh", "-c", "mkdir -p /srv/cgi-bin && cp /book/book /srv/cgi-bin/ && exec httpd -f -p 80 -h /srv"],
        "envFrom": [{"configMapRef": {"name": "guestbook"}}],
        "volumeMounts": [
            {"name": "book", "mountPath": "/book"},
            {"name": "secret", "mountPath": "/etc/guestbook", "readOnly": True},
            {"name": "srv", "mountPath": "/srv"},
        ],
    }
    volumes = [
        {"name": "book", "configMap": {"name": "book", "defaultMode": 0o755}},
        {"name": "secret", "secret": {"secretName": "guestbook"}},
        {"name": "srv", "emptyDir": {}},
    ]
    manifest = (
        dump("v1", "ConfigMap", "guestbook", data={"GREETING": "Welcome aboard"})
        + dump("v1", "ConfigMap", "book", data={"book": BOOK})
        + dump("v1", "Secret", "guestbook", stringData={"password": "s3cret"})
        + deployment("backend", ECHO, replicas=2)
        + service("backend", 8080, 8080)
        + deployment("frontend", front, replicas=2, pod={"volumes": volumes})
        + service("frontend", 80, 80)
        + client()
    )
    kubectl("apply", "-f", "-", stdin=manifest)
    for name in ("backend", "frontend"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s")
    kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=60s")

    def page() -> str:
        return kubectl("exec", "client", "--", "wget", "-qO-", "http://frontend/cgi-bin/book")

    text = eventually(page, "the page")
    assert text.startswith("Welcome aboard\ns3cret\n")
    seen = {line for _ in range(20) for line in page().splitlines() if "backend-" in line}
    assert len(seen) >= 2, "requests reach both pods of the back end"


def test_a_changed_config_map_reaches_the_running_container(kubectl: Callable[..., str]) -> None:
    kubectl("create", "configmap", "live", "--from-literal=mood=calm")
    container = {
        "image": "sampan.local/busybox:1",
        "command": ["sleep", "3600"],
        "volumeMounts": [{"name": "live", "mountPath": "/live"}],
    }
    kubectl(
        "apply", "-f", "-", stdin=pod("reader", container, volumes=[{"name": "live", "configMap": {"name": "live"}}])
    )
    kubectl("wait", "pod/reader", "--for=condition=Ready", "--timeout=60s")
    assert kubectl("exec", "reader", "--", "cat", "/live/mood") == "calm"
    kubectl("patch", "configmap", "live", "-p", '{"data": {"mood": "storm"}}')
    eventually(
        lambda: kubectl("exec", "reader", "--", "cat", "/live/mood") == "storm", "the new value in the container"
    )
