"""What every Runtime promises, checked on the fake and on real Podman; then what only real containers can show."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.api.clock import SystemClock
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.fakeporter import FakePorter
from orchestrator.kubelet.runtime.fake import FakeRuntime
from orchestrator.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    Limits,
    Mount,
    PodState,
    Runtime,
    RuntimeFailure,
    SandboxSpec,
    Security,
    State,
)
from orchestrator.kubelet.runtime.podman import Podman
from tests.integration.kubelet.conftest import PodmanNode

LIMIT_S = 15.0
LOGS = "/var/log/pods/runtime-test"
FOREVER = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
serial = itertools.count(1)


def sandbox_spec(**changes: object) -> SandboxSpec:
    number = next(serial)
    spec = SandboxSpec(
        uid=f"uid-{number}",
        name=f"pod-{number}",
        namespace="default",
        attempt=0,
        image="sampan.local/pause:1",
        hostname=f"host-{number}",
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def container_spec(sandbox: SandboxSpec, sandbox_id: str, *command: str, **changes: object) -> ContainerSpec:
    spec = ContainerSpec(
        sandbox=sandbox,
        sandbox_id=sandbox_id,
        name="c",
        kind="app",
        attempt=0,
        spec_hash="hash",
        image="busybox:1",
        entrypoint=command or FOREVER,
        command=(),
        log_path=f"{LOGS}/{sandbox.uid}.log",
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


async def until(runtime: Runtime, uid: str, condition: Callable[[PodState], bool]) -> PodState:
    async with asyncio.timeout(LIMIT_S):
        while not condition(state := await runtime.pod(uid)):
            await asyncio.sleep(0.02)
        return state


def is_over(state: PodState) -> bool:
    return all(found.state is State.EXITED for found in state.containers)


@pytest.fixture(params=["fake", "podman"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    if request.param == "fake":
        return FakeRuntime(SystemClock())
    request.getfixturevalue("podman_node").folder(LOGS)
    found: Runtime = request.getfixturevalue("podman")
    return found


async def test_life_of_a_container(runtime: Runtime) -> None:
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    assert sandbox.is_ready
    wanted = container_spec(spec, sandbox.id)
    container_id = await runtime.create_container(wanted)
    (made,) = (await runtime.pod(spec.uid)).containers
    assert (made.state, made.name, made.kind, made.spec_hash) == (State.CREATED, "c", "app", "hash")
    await runtime.start_container(container_id, wanted)
    (running,) = (await runtime.pod(spec.uid)).running
    assert running.started_at > 0
    await runtime.stop_container(container_id, 5)
    (ended,) = (await until(runtime, spec.uid, is_over)).containers
    assert ended.exit_code in (3, 143)
    assert ended.finished_at >= ended.started_at
    await runtime.stop_container(container_id, 5)  # again, and nothing happens
    await runtime.remove_container(container_id)
    assert not (await runtime.pod(spec.uid)).containers
    await runtime.stop_sandbox(sandbox.id)
    (stopped,) = (await runtime.pod(spec.uid)).sandboxes
    assert not stopped.is_ready
    await runtime.remove_sandbox(sandbox.id)
    await runtime.remove_sandbox(sandbox.id)
    assert not (await runtime.pod(spec.uid)).sandboxes


@pytest.mark.parametrize("ends_by_itself", [True, False], ids=["ends-by-itself", "has-to-be-killed"])
async def test_one_that_winds_down_still_lets_commands_in(
    podman: Podman, podman_node: PodmanNode, ends_by_itself: bool
) -> None:
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    handler = "until [ -e /tmp/go ]; do sleep 0.1; done; exit 7" if ends_by_itself else "true"
    script = f"trap 'touch /tmp/asked; {handler}' TERM; touch /tmp/up; while true; do sleep 0.1; done"
    wanted = container_spec(spec, sandbox.id, "sh", "-c", script)
    container_id = await podman.create_container(wanted)
    await podman.start_container(container_id, wanted)

    async def there(path: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while (await podman.exec(container_id, ["test", "-e", path], LIMIT_S)).exit_code:
                await asyncio.sleep(0.05)

    await there("/tmp/up")
    stopping = asyncio.create_task(podman.stop_container(container_id, 60 if ends_by_itself else 3))
    await there("/tmp/asked")
    (winding,) = (await podman.pod(spec.uid)).containers
    assert winding.state is State.RUNNING
    if ends_by_itself:
        assert (await podman.exec(container_id, ["touch", "/tmp/go"], LIMIT_S)).exit_code == 0
    await asyncio.wait_for(stopping, LIMIT_S)
    (ended,) = (await until(podman, spec.uid, is_over)).containers
    assert ended.exit_code == (7 if ends_by_itself else 137)
    await podman.remove_container(container_id)
    await podman.stop_sandbox(sandbox.id)
    await podman.remove_sandbox(sandbox.id)


async def test_attempts_are_told_newest_first(runtime: Runtime) -> None:
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    for attempt in range(2):
        wanted = container_spec(spec, sandbox.id, attempt=attempt)
        container_id = await runtime.create_container(wanted)
        await runtime.start_container(container_id, wanted)
        await runtime.kill_container(container_id)
        await until(runtime, spec.uid, is_over)
    state = await runtime.pod(spec.uid)
    latest, previous = state.latest("c"), state.previous("c")
    assert latest is not None
    assert previous is not None
    assert (latest.attempt, previous.attempt) == (1, 0)


async def test_all_pods_are_told_by_uid(runtime: Runtime) -> None:
    specs = [sandbox_spec(), sandbox_spec()]
    for spec in specs:
        await runtime.run_sandbox(spec)
    assert {state.uid for state in await runtime.pods()} == {spec.uid for spec in specs}
    assert (await runtime.pod("no-such-uid")).sandboxes == ()


async def test_an_end_is_an_event(runtime: Runtime) -> None:
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id)
    container_id = await runtime.create_container(wanted)
    await runtime.start_container(container_id, wanted)
    ended = asyncio.Event()

    async def listen() -> None:
        async for event in runtime.events():
            if event.pod_uid == spec.uid and event.container_id == container_id:
                ended.set()

    listener = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(LIMIT_S):
            # Whoever begins to listen may begin too late, as a kubelet may: then it looks, and ends it again.
            while not ended.is_set():
                await asyncio.sleep(0.2)
                await runtime.kill_container(container_id)
    finally:
        listener.cancel()


async def test_images(runtime: Runtime) -> None:
    found = await runtime.image("busybox:1")
    assert found is not None
    assert found.id.startswith("sha256:")
    assert await runtime.image("no.such.registry.invalid/x:1") is None
    assert found.id in {image.id for image in await runtime.images()}
    with pytest.raises(RuntimeFailure):
        await runtime.pull_image("no.such.registry.invalid/x:1", None)


# Real containers only.


async def run(
    podman: Podman, node: PodmanNode, spec: SandboxSpec, *command: str, **changes: object
) -> tuple[ContainerState, str]:
    """Runs a container to its end: how it ended, and what it printed."""
    node.folder(LOGS)
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id, *command, **changes)
    await podman.start_container(await podman.create_container(wanted), wanted)
    (ended,) = (await until(podman, spec.uid, is_over)).containers
    lines = (node.root / wanted.log_path.lstrip("/")).read_text().splitlines()
    return ended, "\n".join(line.split(" ", 3)[3] for line in lines)


async def test_what_a_container_sees(podman: Podman, podman_node: PodmanNode) -> None:
    spec = sandbox_spec(hostname="web-0")
    script = "hostname; echo $A; pwd; ip -o link | wc -l; env | grep -c ^container; exit 7"
    sees = {"env": {"A": "b c"}, "working_dir": "/new/folder"}
    ended, text = await run(podman, podman_node, spec, "sh", "-c", script, **sees)
    assert text.splitlines() == ["web-0", "b c", "/new/folder", "1", "0"]
    assert ended.exit_code == 7


async def test_a_command_that_is_not_there(podman: Podman, podman_node: PodmanNode) -> None:
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id, "no-such-command")
    container_id = await podman.create_container(wanted)
    with pytest.raises(RuntimeFailure, match="no-such-command"):
        await podman.start_container(container_id, wanted)
    (state,) = (await podman.pod(spec.uid)).containers
    assert (state.state, state.exit_code) == (State.EXITED, 128)
    assert "not found" in state.start_error


async def test_users_groups_and_privileges(podman: Podman, podman_node: PodmanNode) -> None:
    security = Security(
        user="1000:3000",
        groups=("2000",),
        capabilities_drop=("ALL",),
        no_new_privileges=True,
        read_only_root=True,
        seccomp_profile="unconfined",
    )
    shm = Mount(source="tmpfs", destination="/dev/shm", is_tmpfs=True)
    status = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status"
    script = f"id -u; id -g; id -G; {status}; touch /x; touch /dev/shm/x && echo shm"
    _, text = await run(podman, podman_node, sandbox_spec(), "sh", "-c", script, security=security, mounts=(shm,))
    # Which of two streams is logged first is nobody's promise.
    lines = [line for line in text.splitlines() if "Read-only file system" not in line]
    assert lines[:2] == ["1000", "3000"]
    assert set(lines[2].split()) == {"3000", "2000"}
    assert [line.split()[1] for line in lines[3:6]] == ["0000000000000000", "1", "0"]
    assert "Read-only file system" in text
    assert lines[-1] == "shm"


async def test_mounts(podman: Podman, podman_node: PodmanNode) -> None:
    folder = podman_node.folder("/var/lib/sampan/kubelet/mount-test")
    file = folder / "f"
    file.write_text("from the node")
    mounts = (
        Mount(source="/var/lib/sampan/kubelet/mount-test", destination="/there", read_only=True),
        Mount(source="/var/lib/sampan/kubelet/mount-test/f", destination="/etc/hosts"),
    )
    script = "cat /there/f /etc/hosts; echo; touch /there/x || echo refused"
    _, text = await run(podman, podman_node, sandbox_spec(), "sh", "-c", script, mounts=mounts)
    assert text.count("from the node") == 2
    assert "refused" in text.splitlines()


async def test_an_image_of_the_shared_store_is_no_volume(podman: Podman) -> None:
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    image = Mount(source="busybox:1", destination="/image", is_image=True, read_only=True)
    with pytest.raises(RuntimeFailure, match="shared store"):
        await podman.create_container(container_spec(spec, sandbox.id, mounts=(image,)))


async def test_one_process_namespace_for_the_pod(podman: Podman, podman_node: PodmanNode) -> None:
    _, alone = await run(podman, podman_node, sandbox_spec(), "sh", "-c", "echo $$")
    assert alone == "1"
    _, shared = await run(podman, podman_node, sandbox_spec(share_pid=True), "sh", "-c", "echo $$")
    assert shared != "1"


async def test_exec(podman: Podman, podman_node: PodmanNode) -> None:
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id)
    container_id = await podman.create_container(wanted)
    await podman.start_container(container_id, wanted)
    result = await podman.exec(container_id, ["sh", "-c", "echo out; echo err >&2; exit 4"], 5)
    assert (result.exit_code, sorted(result.output.split())) == (4, ["err", "out"])
    with pytest.raises(TimeoutError):
        await podman.exec(container_id, ["sleep", "5"], 0.3)


async def test_what_a_power_cut_emptied_is_seen_and_removed(podman: Podman, podman_node: PodmanNode) -> None:
    """Podman can list such containers and remove them, but not inspect them."""
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id)
    container_id = await podman.create_container(wanted)
    await podman.start_container(container_id, wanted)
    await podman.pods()  # so that the pod is known, and looked at by itself
    await podman.stop_container(container_id, 1)
    await podman.stop_sandbox(sandbox.id)
    layers = list((podman_node.root / "var/lib/containers/sampan/overlay").glob("*/lower"))
    assert layers
    for file in layers:
        file.write_text("")
    with pytest.raises(RuntimeFailure, match="invalid argument"):
        await podman.libpod.inspect_container(container_id)
    state = await podman.pod(spec.uid)
    assert [found.id for found in state.containers] == [container_id]
    assert [found.is_ready for found in state.sandboxes] == [False]
    await podman.remove_sandbox(sandbox.id)
    assert (await podman.pod(spec.uid)).sandboxes == ()


async def test_new_limits_reach_crun(podman: Podman, tmp_path: Path) -> None:
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id)
    await podman.start_container(await podman.create_container(wanted), wanted)
    state = await podman.pod(spec.uid)
    porter = FakePorter(Dirs(tmp_path, tmp_path))
    by_podman = Podman(podman.libpod, porter, limits_by_porter=False)
    try:
        await by_podman.limit_container(state, state.running[0], Limits(memory_bytes=64 << 20))
    except RuntimeFailure as error:
        assert "crun update" in str(error)  # with cgroup v1: Podman took it, and crun is not the one to set it


async def test_the_stop_signal_and_the_grace_period(podman: Podman, podman_node: PodmanNode) -> None:
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    stubborn = container_spec(spec, sandbox.id, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    polite = container_spec(spec, sandbox.id, "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done",
                            name="polite", stop_signal="SIGUSR1")  # fmt: skip
    ids = []
    for wanted in (stubborn, polite):
        ids.append(await podman.create_container(wanted))
        await podman.start_container(ids[-1], wanted)
    await asyncio.gather(*(podman.stop_container(container_id, 1) for container_id in ids))
    codes = {found.name: found.exit_code for found in (await until(podman, spec.uid, is_over)).containers}
    assert codes == {"c": 137, "polite": 9}


async def test_logs_are_where_kubernetes_has_them(podman: Podman, podman_node: PodmanNode) -> None:
    spec = sandbox_spec()
    await run(podman, podman_node, spec, "sh", "-c", "echo one; echo two >&2; printf partial")
    text = Path(podman_node.root, LOGS.lstrip("/"), f"{spec.uid}.log").read_text()
    streams = [line.split(" ")[1:3] for line in text.splitlines()]
    assert streams[0] == ["stdout", "F"]
    assert ["stderr", "F"] in streams
    assert streams[-1] == ["stdout", "P"] or "partial" in text


async def test_a_log_goes_on_in_a_new_file(
    podman: Podman, podman_node: PodmanNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    podman_node.folder(LOGS)
    spec = sandbox_spec()
    sandbox = await podman.run_sandbox(spec)
    wanted = container_spec(spec, sandbox.id, "sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done")
    container_id = await podman.create_container(wanted)
    await podman.start_container(container_id, wanted)
    # The pipe is found by its path in the node, and this test is outside of it.
    inspect = podman.libpod.inspect_container

    async def from_outside(container: str) -> dict[str, object]:
        found = await inspect(container)
        return {**found, "StaticDir": str(podman_node.root / found["StaticDir"].lstrip("/"))}

    monkeypatch.setattr(podman.libpod, "inspect_container", from_outside)
    file = podman_node.root / wanted.log_path.lstrip("/")
    async with asyncio.timeout(LIMIT_S):
        while not file.exists() or file.read_text().count("\n") < 3:
            await asyncio.sleep(0.02)
        old = file.rename(file.with_name(file.name + ".old"))
        await podman.reopen_log(container_id)
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.02)
    last = old.read_text().splitlines()[-1].rsplit(" ", 1)[1]
    first = file.read_text().splitlines()[0].rsplit(" ", 1)[1]
    assert int(first) == int(last) + 1


async def test_a_container_that_ends_at_once_has_ended_well(podman: Podman, podman_node: PodmanNode) -> None:
    for _ in range(5):
        ended, _ = await run(podman, podman_node, sandbox_spec(), "true")
        assert (ended.state, ended.exit_code) == (State.EXITED, 0)
        assert ended.finished_at >= ended.started_at > 0
