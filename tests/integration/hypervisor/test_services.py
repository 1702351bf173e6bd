"""Host services under our own supervisor, as real processes."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.hypervisor import processes, services, supervise
from infra.hypervisor.errors import HypervisorError
from tests.integration.hypervisor.traces import eventually

pytestmark = pytest.mark.skipif(services.SYSTEMD.is_dir(), reason="systemd supervises here")
SLEEP = "import os, sys, time; print(os.environ.get('WORD', ''), flush=True); time.sleep(3600)"


class Service:
    def __init__(self, folder: Path) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.log = folder / "service.log"

    def ensure(self, code: str = SLEEP, *, word: str = "one", netns: str | None = None, identity: str = "") -> None:
        services.ensure_service(
            self.name, [sys.executable, "-c", code], environment={"WORD": word}, netns=netns, log=self.log,
            identity=identity,
        )  # fmt: skip

    @property
    def status(self) -> supervise.Status:
        seen = services.status(self.name)
        assert seen is not None
        return seen


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    services.stop_service(made.name)
    assert services.status(made.name) is None
    assert not list(supervise.FOLDER.glob(f"*{made.name}*"))


def test_it_runs_with_its_environment_and_log(service: Service) -> None:
    service.ensure()
    eventually(lambda: service.log.read_text() == "one\n", "no output")
    assert service.status.deaths == 0


def test_the_same_is_left_alone_and_another_definition_replaces_it(service: Service) -> None:
    service.ensure()
    eventually(lambda: service.log.read_text() == "one\n", "no output")
    before = service.status
    service.ensure()
    assert service.status == before
    service.ensure(word="two")
    assert service.status.pid != before.pid
    assert processes.started_at(before.pid) is None
    eventually(lambda: service.log.read_text() == "one\ntwo\n", "the second does not run")


def test_another_checkouts_one_of_the_same_identity_is_left_alone_while_it_runs(service: Service) -> None:
    service.ensure(identity="a")
    eventually(lambda: service.log.read_text() == "one\n", "no output")
    before = service.status
    service.ensure(word="two", identity="a")
    assert service.status == before
    service.ensure(word="two", identity="b")
    assert service.status.pid != before.pid
    eventually(lambda: service.log.read_text() == "one\ntwo\n", "the second does not run")


def test_another_checkouts_one_that_does_not_run_is_replaced(service: Service) -> None:
    """Its checkout may be gone."""
    gone = ["/nowhere/program"]
    services.ensure_service(service.name, gone, environment={}, netns=None, log=service.log, identity="a")
    service.ensure(identity="a")
    eventually(lambda: service.log.read_text().endswith("one\n"), "it does not run")


def test_killed_it_is_back(service: Service) -> None:
    service.ensure()
    first = service.status.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: service.status.pid not in (0, first), "it is not started again")
    assert service.status.deaths == 1
    assert service.status.last_exit == "signal 9"


def test_one_that_always_fails_is_started_more_and_more_slowly_and_can_be_stopped(service: Service) -> None:
    service.ensure("import sys; sys.exit(3)")
    eventually(lambda: service.status.deaths >= 3, "it is not tried again")
    assert service.status.last_exit == "exit code 3"
    assert "again in 0.2 s" in service.log.read_text()


def test_a_program_that_is_not_there_is_told(service: Service) -> None:
    services.ensure_service(service.name, ["/nowhere/program"], environment={}, netns=None, log=service.log)
    assert "/nowhere/program" in service.status.last_exit


def test_one_that_ignores_sigterm_is_ended_nevertheless(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.ensure("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\n" + SLEEP)
    eventually(lambda: service.log.read_text().startswith("1"), "it does not run")
    pid = service.status.pid
    monkeypatch.setattr(services, "STOP_TIMEOUT_S", 0.2)
    with pytest.raises(HypervisorError, match=f"kill -9 {pid}"):
        services.stop_service(service.name)
    monkeypatch.undo()
    services.stop_service(service.name)
    assert processes.started_at(pid) is None


def test_what_it_started_itself_runs_on(service: Service, tmp_path: Path) -> None:
    """As guests do when libvirtd ends."""
    file = tmp_path / "child"
    code = f"""
import subprocess
child = subprocess.Popen(['sleep', '3600'], start_new_session=True)
open({str(file)!r}, 'w').write(str(child.pid))
{SLEEP}"""
    service.ensure(code)
    eventually(lambda: file.exists() and file.read_text(), "no child")
    child = int(file.read_text())
    try:
        services.stop_service(service.name)
        assert processes.started_at(child) is not None
    finally:
        processes.end([child], timeout_s=5)


def test_it_outlives_the_command_that_started_it(service: Service) -> None:
    service.ensure()
    supervisor = Path(f"/proc/{service.status.supervisor}/stat").read_text().rpartition(")")[2].split()
    parent, session = int(supervisor[1]), int(supervisor[3])
    assert parent != os.getpid()
    assert session == service.status.supervisor


def test_stopping_one_that_is_not_there_is_no_error() -> None:
    services.stop_service("test-never-was")
    assert services.status("test-never-was") is None
