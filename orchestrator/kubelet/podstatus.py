"""A pod's status: phase, conditions and container statuses, from what the runtime and the probes say. Pure.

What the runtime has forgotten (a replaced sandbox, a removed container) is taken from the status that the API has. A
terminal phase stays. Times are whole seconds on the wire.
Source: Kubernetes docs, "Pod lifecycle"; API reference, PodStatus; kubelet's generateAPIPodStatus and status/generate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct, field

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.kubelet import health as probes
from orchestrator.kubelet import podspec, sync
from orchestrator.kubelet.health import Health
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.resize import Resizing, Resources
from orchestrator.kubelet.runtime.interface import ContainerKind, ContainerState, PodState, State

Status = dict[str, Any]
RUNTIME_NAME = "podman"
LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the pod was terminated"


class Waiting(NamedTuple):
    """Why a container does not run yet."""

    reason: str
    message: str = ""


RESTARTING_REASON = "RestartingAllContainers"
RESTARTING = Waiting(RESTARTING_REASON, "The container is removed because RestartAllContainers in place")


class Verdict(NamedTuple):
    """A phase that was decided for the pod, whatever its containers do: not admitted, deadline exceeded, evicted."""

    phase: str
    reason: str
    message: str


class Known(Struct, frozen=True, kw_only=True):
    """All that a status is made of. `messages`: termination messages by container id."""

    pod: Object
    state: PodState
    now: float
    health: Mapping[str, Health] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    verdict: Verdict | None = None
    is_ending: bool = False  # what ended will not be started again
    resizing: Resizing | None = None


def pod_status(known: Known) -> Status:
    """The whole status, but for conditions that others own."""
    pod, previous = known.pod, podspec.status(known.pod)
    was_refused = known.verdict is not None and not known.state.sandboxes and not previous.get("containerStatuses")
    lists = {kind: [] if was_refused else _container_statuses(known, kind) for _, kind in podspec.LISTS}
    phase = _phase(known, lists)
    verdict = known.verdict
    if phase in ("Succeeded", "Failed") and known.state.running and not podspec.is_terminal(pod):
        # Others act on a terminal phase (a Job makes the next pod): it is told when nothing runs any more.
        phase, verdict = previous.get("phase") or "Pending", None
    made: Status = {
        "phase": phase,
        "observedGeneration": meta.generation(pod),
        "startTime": previous.get("startTime") or meta.format_time(known.now),
        "qosClass": podspec.qos_class(pod),
        "hostIP": known.host_ips[0] if known.host_ips else None,
        "hostIPs": [{"ip": address} for address in known.host_ips] or None,
        "podIP": known.pod_ips[0] if known.pod_ips else None,
        "podIPs": [{"ip": address} for address in known.pod_ips] or None,
        "containerStatuses": lists["app"],
        "initContainerStatuses": lists["init"],
        "ephemeralContainerStatuses": lists["ephemeral"],
        "reason": verdict.reason if verdict else previous.get("reason"),
        "message": verdict.message if verdict else previous.get("message"),
    }
    made["conditions"] = _conditions(known, lists, phase)
    return {field: value for field, value in made.items() if value not in (None, [])}


def _container_statuses(known: Known, kind: ContainerKind) -> list[Status]:
    return [_container_status(known, kind, container) for container in podspec.containers(known.pod, kind)]


def previous_status(pod: Object, name: str) -> Status:
    """What the API has of a container."""
    for source in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for found in podspec.status(pod).get(source) or ():
            if found.get("name") == name:
                return dict(found)
    return {}


def _container_status(known: Known, kind: ContainerKind, container: Container) -> Status:
    name = container["name"]
    latest, before = known.state.latest(name), known.state.previous(name)
    previous = previous_status(known.pod, name)
    waiting = known.waiting.get(name)
    made: Status = {
        "name": name,
        "image": (latest.image if latest else "") or container.get("image", ""),
        "imageID": f"sha256:{latest.image_id}" if latest else previous.get("imageID", ""),
        "restartCount": latest.attempt if latest else previous.get("restartCount", 0),
        "ready": False,
        "started": False,
        "lastState": {},
    }
    if latest is not None:
        made["containerID"] = f"{RUNTIME_NAME}://{latest.id}"
    if before is not None:
        made["lastState"] = {"terminated": _terminated(known, before)}
    elif made["restartCount"]:
        made["lastState"] = _last_state(previous, made["restartCount"])
    if latest is None or latest.state is State.CREATED:
        _not_there(known, kind, made, previous, waiting)
    elif latest.state is State.RUNNING:
        found = probes.of(known.health, latest.id)
        made["state"] = {"running": {"startedAt": meta.format_time(latest.started_at)}}
        made["started"] = probes.is_started(container, found)
        if kind == "app" or (kind == "init" and is_sidecar(container)):
            made["ready"] = probes.is_ready(container, found)
    else:
        ended = {"terminated": _terminated(known, latest)}
        if waiting is not None:
            made["state"], made["lastState"] = {"waiting": _waiting(waiting)}, ended
        else:
            made["state"] = ended
            made["ready"] = kind == "init" and not is_sidecar(container) and latest.exit_code == 0
    is_running = "running" in made["state"]
    actuated = known.resizing.actuated.get(name) if known.resizing and is_running else None
    return made | _declared(container, actuated, is_running=is_running)


def _last_state(previous: Status, restart_count: int) -> Status:
    """How the predecessor ended, where the runtime has no trace of it: it is what the status was last about."""
    state: Status = previous.get("state") or {}
    if previous.get("restartCount", 0) < restart_count and "terminated" in state:
        return state
    return dict(previous.get("lastState") or {})


def _not_there(known: Known, kind: ContainerKind, made: Status, previous: Status, waiting: Waiting | None) -> None:
    """The state of a container that the runtime does not have: it is to come, or what became of it is on record."""
    before = previous.get("state") or {}
    if waiting == RESTARTING:
        made["state"] = {"waiting": _waiting(waiting)}
        made["lastState"] = previous["lastState"] if "waiting" in before else {"terminated": _RESET}
        return
    if "terminated" in before and waiting is None:
        made["state"] = before
        made["ready"] = bool(previous.get("ready"))
        if previous.get("containerID"):
            made["containerID"] = previous["containerID"]
        if previous.get("lastState"):
            made["lastState"] = previous["lastState"]
        return
    if "running" in before:
        lost = {"exitCode": LOST_EXIT_CODE, "reason": LOST_REASON, "message": LOST_MESSAGE}
        made["lastState"] = {"terminated": lost | {"startedAt": None, "finishedAt": None}}
    if waiting is None:
        has_inits = bool(podspec.containers(known.pod, "init"))
        waiting = Waiting("PodInitializing" if has_inits or kind == "init" else "ContainerCreating")
    made["state"] = {"waiting": _waiting(waiting)}


_RESET = {
    "exitCode": LOST_EXIT_CODE,
    "reason": RESTARTING_REASON,
    "message": RESTARTING.message,
    "startedAt": None,
    "finishedAt": None,
}


def _waiting(waiting: Waiting) -> Status:
    return {"reason": waiting.reason} | ({"message": waiting.message} if waiting.message else {})


def _terminated(known: Known, container: ContainerState) -> Status:
    message = known.messages.get(container.id) or container.start_error
    made = {
        "exitCode": container.exit_code,
        "reason": _reason(container),
        "startedAt": meta.format_time(container.started_at),
        "finishedAt": meta.format_time(container.finished_at),
        "containerID": f"{RUNTIME_NAME}://{container.id}",
    }
    if container.state is State.UNKNOWN:
        made |= {"exitCode": LOST_EXIT_CODE, "startedAt": None, "finishedAt": None}
        message = message or LOST_MESSAGE
    return made | ({"message": message} if message else {})


def _reason(container: ContainerState) -> str:
    if container.state is State.UNKNOWN:
        return LOST_REASON
    if container.start_error:
        return "StartError"
    if container.is_oom_killed:
        return "OOMKilled"
    return "Completed" if container.exit_code == 0 else "Error"


def _declared(container: Container, actuated: Resources | None, *, is_running: bool) -> Status:
    """What a status repeats of the specification: the resources that are allocated, and those in force."""
    made: Status = {}
    if allocated := podspec.requests(container):
        made["allocatedResources"] = allocated
    resources = (container.get("resources") or {}) if actuated is None else actuated
    if resources or is_running:  # where there are none too: it tells that this node can resize
        made["resources"] = {part: resources[part] for part in ("limits", "requests") if resources.get(part)}
    if mounts := container.get("volumeMounts"):
        made["volumeMounts"] = [_mount_status(mount) for mount in mounts]
    return made


def _mount_status(mount: Mapping[str, Any]) -> Status:
    made: Status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        made |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return made


def _phase(known: Known, lists: Mapping[ContainerKind, list[Status]]) -> str:
    if podspec.is_terminal(known.pod):
        return str(podspec.status(known.pod)["phase"])
    if known.verdict is not None:
        return known.verdict.phase
    declared = {container["name"]: container for container in podspec.containers(known.pod, "init")}
    initializing = failed = False
    for found in lists["init"]:
        if is_sidecar(declared[found["name"]]):
            initializing = initializing or not found["started"]
        elif "terminated" not in found["state"]:
            initializing = True
        elif found["state"]["terminated"]["exitCode"] != 0:
            failed = failed or not _restarts(known.pod, declared, "init", found)
            initializing = True
    waiting, running, stopped, succeeded = _counted(lists["app"])
    total = len(lists["app"])
    if failed:
        return "Failed"
    if initializing and waiting == total:
        return "Pending"
    if waiting:
        return "Pending"
    if running:
        return "Running"
    if not stopped:
        return "Pending"
    if known.is_ending:
        return "Succeeded" if stopped == succeeded else "Failed"
    declared = {container["name"]: container for container in podspec.containers(known.pod, "app")}
    if any(_restarts(known.pod, declared, "app", found) for found in lists["app"]):
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def _restarts(pod: Object, declared: Mapping[str, Container], kind: ContainerKind, found: Status) -> bool:
    """Of a container that has ended, also where it waits for its next run."""
    ended = found["state"].get("terminated") or found["lastState"].get("terminated") or {}
    if ended.get("reason") == RESTARTING_REASON:
        return True
    return sync.may_restart(pod, declared[found["name"]], kind, ended.get("exitCode"))


def _counted(statuses: list[Status]) -> tuple[int, int, int, int]:
    """Containers that wait for their first run, run, have ended (or wait for another run), and ended well."""
    waiting = running = stopped = succeeded = 0
    for found in statuses:
        state = found["state"]
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif "terminated" in found["lastState"]:
            stopped += 1
        else:
            waiting += 1
    return waiting, running, stopped, succeeded


def _conditions(known: Known, lists: Mapping[ContainerKind, list[Status]], phase: str) -> list[Status]:
    """Ours, with transition times that move only when a status does."""
    previous = podspec.status(known.pod).get("conditions") or []
    now = meta.format_time(known.now)
    generation = meta.generation(known.pod)
    ready_to_start = bool(known.state.sandbox and known.state.sandbox.is_ready and known.pod_ips)
    containers_ready = _containers_ready(known, lists, phase)
    wanted = [
        {"type": "PodReadyToStartContainers", "status": _text(ready_to_start)},
        {"type": "Initialized"} | _initialized(known, lists, previous, phase),
        {"type": "Ready"} | _ready(known, previous, containers_ready),
        {"type": "ContainersReady"} | containers_ready,
        conditions.find(previous, "PodScheduled") or {"type": "PodScheduled", "status": "True"},
    ]
    if sync.may_restart_all(known.pod):
        wanted.append({"type": "AllContainersRestarting"} | _restarting(known, phase))
    made: list[Status] = []
    for condition in wanted:
        merged = conditions.updated([old for old in previous if old["type"] == condition["type"]], condition, now)
        made.append({**merged[0], "observedGeneration": generation})
    if known.resizing is not None and phase not in ("Succeeded", "Failed"):
        made += known.resizing.conditions
    return made


def _text(value: bool) -> str:
    return "True" if value else "False"


def _restarting(known: Known, phase: str) -> Status:
    """Whether a container ended whose rule restarts all, and they are not removed yet."""
    if phase in ("Succeeded", "Failed"):
        return {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    declared = {container["name"]: container for _, container in podspec.all_containers(known.pod)}
    ended = [found for found in known.state.containers if found.state is State.EXITED and found.name in declared]
    if not any(sync.restarts_all(declared[found.name], found.exit_code) for found in ended):
        return {"status": "False"}
    message = "container exited with restart policy rule"
    return {"status": "True", "reason": "RestartAllContainersStarted", "message": message}


def _initialized(
    known: Known, lists: Mapping[ContainerKind, list[Status]], previous: list[Status], phase: str
) -> Status:
    """A pod that was initialized stays so, also where its init containers run again."""
    if phase == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    declared = {container["name"]: container for container in podspec.containers(known.pod, "init")}
    begun = any("running" in found["state"] or "terminated" in found["state"] for found in lists["app"])
    incomplete = [
        found["name"]
        for found in lists["init"]
        if not (begun or (found["started"] if is_sidecar(declared[found["name"]]) else found["ready"]))
    ]
    if incomplete and (conditions.find(previous, "Initialized") or {}).get("status") != "True":
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        return {"status": "False", "reason": "ContainersNotInitialized", "message": message}
    return {"status": "True"}


def _containers_ready(known: Known, lists: Mapping[ContainerKind, list[Status]], phase: str) -> Status:
    if phase == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if phase == "Failed":
        return {"status": "False", "reason": "PodFailed"}
    declared = {container["name"]: container for container in podspec.containers(known.pod, "init")}
    counted = [found for found in lists["init"] if is_sidecar(declared[found["name"]])] + lists["app"]
    unready = [found["name"] for found in counted if not found["ready"]]
    if unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        return {"status": "False", "reason": "ContainersNotReady", "message": message}
    return {"status": "True"}


def _ready(known: Known, previous: list[Status], containers_ready: Status) -> Status:
    if containers_ready["status"] != "True":
        return containers_ready
    for gate in podspec.spec(known.pod).get("readinessGates") or ():
        kind = gate["conditionType"]
        found = conditions.find(previous, kind)
        if found is None:
            message = f'corresponding condition of pod readiness gate "{kind}" does not exist.'
        elif found.get("status") != "True":
            message = f'the status of pod readiness gate "{kind}" is not "True", but {found.get("status")}'
        else:
            continue
        return {"status": "False", "reason": "ReadinessGatesNotReady", "message": message}
    return {"status": "True"}
