"""What Podman has, read as our records, and cheaply: a look at one pod must not cost more when there are many.

Podman's list of containers reads every container of the node whatever is asked for (19 ms with 80 of them); a pod's
inspection costs 2.5 ms always. So everything is listed once, and after that a pod is inspected by its id, and of its
containers only those whose state is another than the one last seen. Sandboxes of a pod are known because we made them;
where a creation broke off, nobody knows, and that pod is listed again (`doubt`).

States: `stopped` comes before `exited` and means the same. After the node was killed Podman says "exited 0" with no
time of ending: how those ended is unknown, and unknown is not success.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from orchestrator.kubelet.porter import PodKey, Porter, PorterFailure
from orchestrator.kubelet.runtime import names
from orchestrator.kubelet.runtime.interface import (
    ContainerState,
    NoSuchContainer,
    PodState,
    RuntimeFailure,
    RuntimeUnavailable,
    Sandbox,
    State,
)
from orchestrator.kubelet.runtime.libpod import Json, Libpod

log = logging.getLogger(__name__)

STATES = {
    "created": State.CREATED,
    "configured": State.CREATED,
    "initialized": State.CREATED,
    "running": State.RUNNING,
    "paused": State.RUNNING,
    "stopping": State.RUNNING,
    "stopped": State.EXITED,
    "exited": State.EXITED,
    "removing": State.EXITED,
}
SETTLED = ("running", "exited")  # while a container stays in one of these, nothing about it changes


class States:
    """`start_errors`: why containers never ran, by id; Podman keeps no trace of it."""

    def __init__(self, libpod: Libpod, porter: Porter, *, limits_by_porter: bool) -> None:
        self._libpod, self._porter, self._limits_by_porter = libpod, porter, limits_by_porter
        self._pods_of: dict[str, set[str]] = {}  # ids of Podman's pods, by the pod's uid
        self._uid_of: dict[str, str] = {}
        self._doubtful: set[str] = set()
        self._is_listed = False
        self._rows: dict[str, Json] = {}  # settled containers as last seen, by id
        self._oom_killed: dict[str, bool] = {}  # ended containers, by id
        self.start_errors: dict[str, str] = {}

    # What was made and removed.

    def doubt(self, uid: str) -> None:
        """A sandbox of the pod is being made."""
        self._doubtful.add(uid)

    def made(self, uid: str, pod_id: str) -> None:
        self._know(uid, pod_id)
        self._doubtful.discard(uid)

    def removed(self, pod_id: str) -> None:
        uid = self._uid_of.pop(pod_id, "")
        left = self._pods_of.get(uid, set())
        left.discard(pod_id)
        if not left:
            self._pods_of.pop(uid, None)
        for gone in [known for known, row in self._rows.items() if row["Pod"] == pod_id]:
            self.container_removed(gone)

    def container_removed(self, container_id: str) -> None:
        self._rows.pop(container_id, None)
        self._oom_killed.pop(container_id, None)
        self.start_errors.pop(container_id, None)

    # Looks.

    async def all(self) -> list[PodState]:
        found: dict[str, list[tuple[names.Name, Json]]] = {}
        for name, row in await self._list(f"^{names.PREFIX}"):
            found.setdefault(name.uid, []).append((name, row))
        self._is_listed = True
        self._doubtful.clear()
        present = {row["Id"] for rows in found.values() for _, row in rows}
        for gone in (self._rows.keys() | self.start_errors.keys()) - present:
            self.container_removed(gone)
        return [await self._state(uid, rows) for uid, rows in sorted(found.items())]

    async def pod(self, uid: str) -> PodState:
        if not self._is_listed or uid in self._doubtful:
            self._doubtful.discard(uid)
            rows = await self._list(f"^{names.PREFIX}.*_{uid}_")
            return await self._state(uid, [(name, row) for name, row in rows if name.uid == uid])
        found: list[tuple[names.Name, Json]] = []
        for pod_id in sorted(self._pods_of.get(uid, ())):
            found += await self._inspect(pod_id)
        return await self._state(uid, found)

    async def _list(self, pattern: str) -> list[tuple[names.Name, Json]]:
        found = []
        for row in await self._libpod.list_containers({"name": [pattern]}):
            if (name := _name(row)) is not None:
                self._know(name.uid, row["Pod"])
                found.append((name, row))
        return found

    def _know(self, uid: str, pod_id: str) -> None:
        self._pods_of.setdefault(uid, set()).add(pod_id)
        self._uid_of[pod_id] = uid

    async def _inspect(self, pod_id: str) -> list[tuple[names.Name, Json]]:
        try:
            pod = await self._libpod.inspect_pod(pod_id)
        except NoSuchContainer:
            self.removed(pod_id)
            return []
        found = []
        for member in pod.get("Containers") or ():
            row = self._rows.get(member["Id"])
            if row is None or row["State"] != member["State"]:
                row = await self._look(member["Id"])
                if row is None:
                    continue
                if row["State"] in SETTLED:
                    self._rows[member["Id"]] = row
            if (name := _name(row)) is not None:
                found.append((name, row))
        return found

    async def _look(self, container_id: str) -> Json | None:
        """A power cut may empty files of a container's layers, so that Podman cannot inspect it any more; what its list
        still says is enough to have the pod made anew. None for a container that is gone."""
        try:
            return _row(await self._libpod.inspect_container(container_id))
        except NoSuchContainer:
            return None
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            log.warning("container not inspected", extra={"container": container_id, "error": str(error)})
            return next(iter(await self._libpod.list_containers({"id": [container_id]})), None)

    # Records.

    async def _state(self, uid: str, found: list[tuple[names.Name, Json]]) -> PodState:
        if not found:
            return PodState(uid=uid)
        sandboxes = [_sandbox(name, row) for name, row in found if name.container == names.SANDBOX]
        is_ready = any(sandbox.is_ready for sandbox in sandboxes)
        containers = [
            await self._container(name, row, is_ready)
            for name, row in found
            if name.container != names.SANDBOX and (row.get("Labels") or {}).get(names.OURS)
        ]
        name = found[0][0]
        return PodState(
            uid=uid,
            name=name.pod,
            namespace=name.namespace,
            sandboxes=tuple(sorted(sandboxes, key=lambda sandbox: -sandbox.attempt)),
            containers=tuple(sorted(containers, key=lambda container: (-container.created_at, -container.attempt))),
        )

    async def _container(self, name: names.Name, row: Json, is_sandbox_ready: bool) -> ContainerState:
        labels: dict[str, str] = row["Labels"]
        state = STATES.get(row["State"], State.UNKNOWN)
        started, finished = _seconds(row.get("StartedAt")), _seconds(row.get("ExitedAt"))
        start_error = self.start_errors.get(row["Id"], "")
        exit_code = int(row.get("ExitCode") or 0)
        if start_error:
            state, exit_code = State.EXITED, 128
            finished = finished or _seconds(row.get("Created"))
        elif state is State.EXITED:
            state = State.EXITED if finished > 0 else State.UNKNOWN
            # Podman takes the time of a start after it: a container that ended at once would end before it began.
            finished = max(finished, started)
        elif state is State.CREATED and started > 0:
            # Seen for a moment after a start, when the OCI runtime is asked before it has noticed; without a sandbox
            # it is what a restart of the node has left.
            state = State.RUNNING if is_sandbox_ready else State.UNKNOWN
        return ContainerState(
            id=row["Id"],
            name=labels.get(names.CONTAINER_NAME, name.container),
            kind=_kind(labels.get(names.CONTAINER_KIND)),
            state=state,
            attempt=name.attempt,
            spec_hash=labels.get(names.CONTAINER_HASH, ""),
            sandbox_id=row.get("Pod", ""),
            image=row.get("Image", ""),
            image_id=row.get("ImageID", ""),
            pid=int(row.get("Pid") or 0),
            created_at=_seconds(row.get("Created")),
            started_at=started,
            finished_at=finished,
            exit_code=exit_code,
            is_oom_killed=state is State.EXITED and exit_code != 0 and await self._is_oom_killed(name, row["Id"]),
            start_error=start_error,
        )

    async def _is_oom_killed(self, name: names.Name, container_id: str) -> bool:
        """Asked once for each ended container; on v1 hosts only the porter's control group knows."""
        if container_id in self.start_errors:
            return False
        known = self._oom_killed.get(container_id)
        if known is None:
            try:
                if self._limits_by_porter:
                    pod = PodKey(name.uid, name.namespace, name.pod)
                    known = (await self._porter.cgroup_stat(pod, name.container)).oom_kills > 0
                else:
                    known = bool((await self._libpod.inspect_container(container_id))["State"].get("OOMKilled"))
            except RuntimeUnavailable:
                raise
            except (PorterFailure, RuntimeFailure):
                known = False
            self._oom_killed[container_id] = known
        return known


def _name(row: Json) -> names.Name | None:
    listed: Iterable[str] = row.get("Names") or ()
    return names.parse(next(iter(listed), "").removesuffix("_infra"))


def _row(inspected: Json) -> Json:
    """An inspection in the shape of a list's row."""
    state = inspected["State"]
    return {
        "Id": inspected["Id"],
        "Names": [inspected["Name"]],
        "Labels": (inspected.get("Config") or {}).get("Labels") or {},
        "State": state["Status"],
        "Pid": state.get("Pid"),
        "ExitCode": state.get("ExitCode"),
        "Created": inspected.get("Created"),
        "StartedAt": state.get("StartedAt"),
        "ExitedAt": state.get("FinishedAt"),
        "Image": inspected.get("ImageName", ""),
        "ImageID": inspected.get("Image", ""),
        "Pod": inspected.get("Pod", ""),
    }


def _sandbox(name: names.Name, row: Json) -> Sandbox:
    return Sandbox(
        id=row.get("Pod", ""),
        is_ready=STATES.get(row["State"]) is State.RUNNING,
        attempt=name.attempt,
        pid=int(row.get("Pid") or 0),
        created_at=_seconds(row.get("Created")),
    )


def _kind(text: str | None) -> Any:
    return text if text in ("app", "init", "ephemeral") else "app"


def _seconds(value: Any) -> float:
    """Seconds since the epoch of what libpod gives for a time: a number, RFC 3339, or its zero."""
    if isinstance(value, int | float):
        return max(0.0, float(value))
    if not value or str(value).startswith("0001-"):
        return 0.0
    try:
        return max(0.0, datetime.fromisoformat(str(value)).timestamp())
    except ValueError:
        return 0.0
