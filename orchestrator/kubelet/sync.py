"""What to do next for a pod: a pure function of the pod, what the runtime has of it, and the time.

    no ready sandbox  → ReplaceSandbox          (and look again)
    a container ended whose rule restarts all → ResetContainers     (and look again: initialization begins anew)
    initialization    → one init container after the other; a sidecar counts once it has started
    then              → every app container that is not there or may be restarted; ephemeral ones once
    all ended for good → StopPod

Level-triggered: the answer depends on nothing but the arguments, so any action may be lost or repeated. A container
that ended is restarted by its policy, not before its back-off is over (BackOff says until when). A running container is
killed when its image was changed, a probe condemns it or its resize policy wants it; the next look restarts it.
Source: Kubernetes docs, "Pod lifecycle", "Init containers", KEP-753 (sidecars), KEP-5532 (all containers restarted);
kubelet's computePodActions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.kubelet import health as probes
from orchestrator.kubelet import podspec, resize
from orchestrator.kubelet.health import Health
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.resize import Resources
from orchestrator.kubelet.runtime.interface import ContainerKind, ContainerState, PodState, State

RESTART_ALL = "RestartAllContainers"


class Observed(Struct, frozen=True, kw_only=True):
    """`backoff_until`: by container name, when it may be restarted. `attempts`: restarts that the runtime has no trace
    of any more (its sandbox was replaced). `succeeded`: containers of replaced sandboxes that ended well. `actuated`:
    the resources that control groups hold, by container; the pod's own are those allocated to it."""

    pod: Object
    state: PodState
    now: float
    health: Mapping[str, Health] = field(default_factory=dict)
    backoff_until: Mapping[str, float] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    succeeded: frozenset[str] = frozenset()
    actuated: Mapping[str, Resources] = field(default_factory=dict)


class ReplaceSandbox(Struct, frozen=True):
    """Remove what there is of sandboxes, with their containers, and make the sandbox of this attempt."""

    attempt: int


class RemoveSandbox(Struct, frozen=True):
    """Left by a kubelet that died while it was made, beside the one that the pod lives in."""

    id: str


class StartContainer(Struct, frozen=True):
    name: str
    kind: ContainerKind
    attempt: int


class KillContainer(Struct, frozen=True):
    id: str
    name: str
    message: str
    probe: str = ""  # the kind of probe that condemned it


class ResizeContainer(Struct, frozen=True):
    """Write what is allocated to a running container into its control group."""

    id: str
    name: str


class ResetContainers(Struct, frozen=True):
    """A container's rule wants all of them run again, in this sandbox and with these volumes: end what runs, remove all
    in this order. The one that wants it comes last, so that it is still seen should the kubelet die meanwhile."""

    ids: tuple[str, ...]


class BackOff(Struct, frozen=True):
    """The container waits for its restart."""

    name: str
    until: float


class StopPod(Struct, frozen=True):
    """Nothing will run any more: end what still does, and the sandbox; what ended stays to be seen."""


Action = (
    ReplaceSandbox
    | RemoveSandbox
    | StartContainer
    | KillContainer
    | ResizeContainer
    | ResetContainers
    | BackOff
    | StopPod
)


def sync(seen: Observed) -> list[Action]:
    sandbox = seen.state.sandbox
    if is_finished(seen):
        return [StopPod()] if (sandbox and sandbox.is_ready) or seen.state.running else []
    if sandbox is None or not sandbox.is_ready:
        newest = max((found.attempt for found in seen.state.sandboxes), default=-1)
        return [ReplaceSandbox(newest + 1)]
    if stray := [found for found in seen.state.sandboxes if found is not sandbox]:
        return [RemoveSandbox(found.id) for found in stray]
    if ids := _reset(seen):
        return [ResetContainers(ids)]
    actions, is_initialized = _initialize(seen)
    if is_initialized:
        for container in podspec.containers(seen.pod, "app"):
            actions += _keep(seen, container, "app")
    for container in podspec.containers(seen.pod, "ephemeral"):
        if seen.state.latest(container["name"]) is None:
            actions.append(StartContainer(container["name"], "ephemeral", 0))
    return actions


def is_finished(seen: Observed) -> bool:
    """Whether no container will ever run again."""
    apps = podspec.containers(seen.pod, "app")
    if apps and all(_has_ended(seen, container, "app") for container in apps):
        return True
    if _has_begun(seen):
        return False
    for container in podspec.containers(seen.pod, "init"):
        found = seen.state.latest(container["name"])
        if is_sidecar(container) or found is None or not _is_over(found):
            continue
        if not _is_success(found) and not _restarts(seen, container, "init", found):
            return True
    return False


def _initialize(seen: Observed) -> tuple[list[Action], bool]:
    """What is left of initialization, and whether app containers may run."""
    begun = _has_begun(seen)
    actions: list[Action] = []
    for container in podspec.containers(seen.pod, "init"):
        found = seen.state.latest(container["name"])
        if is_sidecar(container):
            actions += _keep(seen, container, "init")
            is_up = found is not None and found.state is State.RUNNING
            if begun or (is_up and probes.is_started(container, probes.of(seen.health, found.id if found else ""))):
                continue
            return actions, False
        if begun or (found is not None and found.state is State.EXITED and _is_success(found)):
            continue
        return [*actions, *_keep(seen, container, "init")], False
    return actions, True


def _has_begun(seen: Observed) -> bool:
    """Whether an app container of this sandbox has ever run: initialization is over then, whatever became of it."""
    return any(found.kind == "app" and found.state is not State.CREATED for found in seen.state.containers)


def _keep(seen: Observed, container: Container, kind: ContainerKind) -> list[Action]:
    """What keeps one container as its policy wants it."""
    name = container["name"]
    found = seen.state.latest(name)
    if found is None or found.state is State.CREATED:
        if name in seen.succeeded and kind == "app" and _policy(seen.pod, container, kind) != "Always":
            return []
        attempt = max(seen.attempts.get(name, -1) + 1, found.attempt if found else 0)
        return [StartContainer(name, kind, attempt)]
    if found.state is State.RUNNING:
        return _condemn(seen, container, found) or _resized(seen, container, found)
    if not _restarts(seen, container, kind, found):
        return []
    until = seen.backoff_until.get(name, 0.0)
    if until > seen.now:
        return [BackOff(name, until)]
    return [StartContainer(name, kind, found.attempt + 1)]


def _condemn(seen: Observed, container: Container, found: ContainerState) -> list[Action]:
    name = container["name"]
    if found.spec_hash and found.spec_hash != podspec.spec_hash(container):
        return [KillContainer(found.id, name, f"Container {name} definition changed")]
    failed = probes.failed_probe(probes.of(seen.health, found.id))
    if failed is not None:
        return [KillContainer(found.id, name, f"Container {name} failed {failed} probe, will be restarted", failed)]
    return []


def _resized(seen: Observed, container: Container, found: ContainerState) -> list[Action]:
    name = container["name"]
    wanted = container.get("resources") or {}
    changed = resize.differing(wanted, seen.actuated.get(name, wanted))
    if resize.needs_restart(container, changed):
        return [KillContainer(found.id, name, f"Container {name} resize requires restart")]
    return [ResizeContainer(found.id, name)] if changed else []


def _has_ended(seen: Observed, container: Container, kind: ContainerKind) -> bool:
    found = seen.state.latest(container["name"])
    if found is None:
        return container["name"] in seen.succeeded and _policy(seen.pod, container, kind) != "Always"
    return _is_over(found) and not _restarts(seen, container, kind, found)


def _is_over(found: ContainerState) -> bool:
    return found.state in (State.EXITED, State.UNKNOWN)


def _is_success(found: ContainerState) -> bool:
    return found.state is State.EXITED and found.exit_code == 0


def _restarts(seen: Observed, container: Container, kind: ContainerKind, found: ContainerState) -> bool:
    code = found.exit_code if found.state is State.EXITED else None
    return may_restart(seen.pod, container, kind, code)


def _reset(seen: Observed) -> tuple[str, ...]:
    """What has to go where a container ended whose rule restarts all: app containers before init containers."""
    others: list[str] = []
    sources: list[str] = []
    for kind in ("app", "init"):
        for container in podspec.containers(seen.pod, kind):
            for found in seen.state.containers:
                if found.name == container["name"] and found.kind == kind:
                    wants = found.state is State.EXITED and restarts_all(container, found.exit_code)
                    (sources if wants else others).append(found.id)
    return (*others, *sources) if sources else ()


def may_restart_all(pod: Object) -> bool:
    """Whether a container of the pod has such a rule."""
    return any(
        rule.get("action") == RESTART_ALL
        for kind, container in podspec.all_containers(pod)
        if kind != "ephemeral"
        for rule in container.get("restartPolicyRules") or ()
    )


def restarts_all(container: Container, exit_code: int | None) -> bool:
    rule = _rule_of(container, exit_code)
    return rule is not None and rule.get("action") == RESTART_ALL


def _rule_of(container: Container, exit_code: int | None) -> Mapping[str, Any] | None:
    """The first rule that is about an exit code decides."""
    if exit_code is None:
        return None
    rules = container.get("restartPolicyRules") or ()
    return next((rule for rule in rules if _matches(rule.get("exitCodes") or {}, exit_code)), None)


def may_restart(pod: Object, container: Container, kind: ContainerKind, exit_code: int | None) -> bool:
    """Whether a container that has ended is run again; the code is None where nobody knows it."""
    rule = _rule_of(container, exit_code)
    if rule is not None and rule.get("action") in ("Restart", RESTART_ALL):
        return True
    policy = _policy(pod, container, kind)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _matches(codes: Mapping[str, object], exit_code: int) -> bool:
    values = codes.get("values")
    listed = exit_code in values if isinstance(values, list) else False
    return listed if codes.get("operator") == "In" else not listed


def _policy(pod: Object, container: Container, kind: ContainerKind) -> str:
    """A container's own policy wins. An ordinary init container of an Always pod is run again until it succeeds."""
    own = container.get("restartPolicy")
    policy = str(own) if own else podspec.restart_policy(pod)
    if kind == "init" and not is_sidecar(container) and policy == "Always":
        return "OnFailure"
    return policy
