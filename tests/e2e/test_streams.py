"""exec, logs, port-forward and cp with the real kubectl."""

import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import WAIT_S, WITHIN, Lab, eventually
from tests.e2e.manifests import ECHO, pod

BUSYBOX = "sampan.local/busybox:1"


@pytest.fixture
def box(kubectl: Callable[..., str]) -> Iterator[str]:
    script = "i=0; while :; do echo line $i; i=$((i+1)); usleep 100000; done"
    kubectl("apply", "-f", "-", stdin=pod("box", {"image": BUSYBOX, "command": ["sh", "-c", script]}))
    kubectl("wait", "pod/box", "--for=condition=Ready", WITHIN)
    yield "box"


def test_exec_carries_output_input_and_exit_status(
    kubectl: Callable[..., str], box: str, lab: Lab, namespace: str
) -> None:
    assert kubectl("exec", box, "--", "echo", "hello") == "hello\n"
    assert kubectl("exec", "-i", box, "--", "tr", "a-z", "A-Z", stdin="shout") == "SHOUT"
    done = subprocess.run(
        lab.command("-n", namespace, "exec", box, "--", "sh", "-c", "echo oops >&2; exit 7"),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr.startswith("oops\n")


def test_exec_with_a_terminal(kubectl: Callable[..., str], box: str, lab: Lab, namespace: str) -> None:
    inner = " ".join(lab.command("-n", namespace, "exec", "-it", box, "--", "tty"))
    command = ["script", "-qec", inner, "/dev/null"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as terminal:
        assert terminal.stdout is not None
        said = terminal.stdout.read()  # a person's terminal stays open meanwhile
        assert terminal.wait(WAIT_S) == 0, said
    assert "/dev/pts/" in said


def test_logs(kubectl: Callable[..., str], box: str, lab: Lab, namespace: str) -> None:
    eventually(lambda: "line 3" in kubectl("logs", box), "the first lines")
    assert kubectl("logs", box, "--tail=1").startswith("line ")
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z line 0\n", kubectl("logs", box, "--timestamps"))
    follow = subprocess.Popen(lab.command("-n", namespace, "logs", "-f", box), stdout=subprocess.PIPE, text=True)
    assert follow.stdout is not None
    lines = [follow.stdout.readline() for _ in range(20)]
    follow.kill()
    follow.wait()
    assert lines == [f"line {number}\n" for number in range(20)]


def test_port_forward(kubectl: Callable[..., str], lab: Lab, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=pod("echo", ECHO))
    kubectl("wait", "pod/echo", "--for=condition=Ready", WITHIN)
    forward = subprocess.Popen(
        lab.command("-n", namespace, "port-forward", "pod/echo", ":8080"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert forward.stdout is not None
        line = forward.stdout.readline()
        match = re.search(r"127\.0\.0\.1:(\d+) -> 8080", line)
        assert match, line
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/", timeout=10) as answer:
                assert b"echo" in answer.read()
    finally:
        forward.kill()
        forward.wait()


def test_cp_both_ways(kubectl: Callable[..., str], box: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "out").write_bytes(content)
    kubectl("cp", str(tmp_path / "out"), f"{box}:/tmp/file")
    kubectl("cp", f"{box}:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content
