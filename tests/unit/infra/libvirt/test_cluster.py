"""What an installation asks of an API that is slow to answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from infra.libvirt import cluster
from orchestrator.api.meta import Object

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}}


class Slow(ThreadingHTTPServer):
    """Its first answers do not come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.late = 1
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Slow

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.asked.append(self.path)
        if len(self.server.asked) <= self.server.late:
            time.sleep(0.5)
            self.close_connection = True
            return
        body = json.dumps(NODE).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(cluster, "ASK_TIMEOUT_S", 0.2)
    with Slow() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def kubeconfig(slow: Slow, tmp_path: Path) -> Path:
    file = tmp_path / "kubeconfig"
    entry = {"clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{slow.server_port}"}}],
             "users": [{"name": "u", "user": {}}], "current-context": "x",
             "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}  # fmt: skip
    file.write_text(yaml.safe_dump(entry))
    return file


@pytest.mark.parametrize("step", [cluster.uncordon, cluster.forget])
def test_an_api_that_is_busy_is_asked_again(slow: Slow, kubeconfig: Path, step: object) -> None:
    step(kubeconfig, "worker-1")  # type: ignore[operator]
    assert slow.asked == ["/api/v1/nodes/worker-1"] * 2


def test_one_that_stays_silent_is_told_in_words(slow: Slow, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_TIMEOUT_S", 0.5)
    slow.late = 1000
    with pytest.raises(cluster.ClusterError, match="uncordoning node worker-1: not after 0 s: the API does not answer"):
        cluster.uncordon(kubeconfig, "worker-1")


def replica(name: str, *, ready: bool = True, owner: str = "set", ends: bool = False) -> Object:
    metadata: Object = {"name": name, "namespace": "d"}
    if owner:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}]
    if ends:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}


@pytest.mark.parametrize(
    ("pods", "leaving", "stay"),
    [
        pytest.param([replica("a"), replica("b")], "ab", "a", id="both-are-here"),
        pytest.param([replica("a"), replica("b")], "a", "", id="another-is-elsewhere"),
        pytest.param([replica("a"), replica("b", ready=False)], "a", "a", id="the-other-is-not-ready-yet"),
        pytest.param([replica("a"), replica("b", ends=True), replica("c", ready=False)], "ab", "a", id="one-has-gone"),
        pytest.param([replica("a")], "a", "", id="there-is-but-one"),
        pytest.param([replica("a", ready=False), replica("b", ready=False)], "ab", "", id="none-is-ready"),
        pytest.param([replica("a", owner=""), replica("b", owner="")], "ab", "", id="nobodys"),
        pytest.param([replica("a", owner="x"), replica("b", owner="y")], "ab", "", id="of-two-owners"),
    ],
)
def test_of_replicas_the_last_ready_one_waits_for_another(pods: list[Object], leaving: str, stay: str) -> None:
    assert cluster.spared(pods, [("d", name) for name in leaving]) == {("d", name) for name in stay}
