"""Images for containers: pulled as the policy says, once at a time for each name, with back-off between failures.

Errors: ImageFailure with the reason a container waits for (ErrImagePull, ImagePullBackOff, ErrImageNeverPull) and when
to try again. Credentials come from the pod's imagePullSecrets, matched by registry host.
Source: Kubernetes docs, "Images"; kubelet's image_manager.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import SECRETS
from orchestrator.api.status import ApiError
from orchestrator.kubelet import podspec
from orchestrator.kubelet.backoff import Backoff
from orchestrator.kubelet.objects import Objects
from orchestrator.kubelet.runtime.interface import Image, Runtime, RuntimeFailure

Tell = Callable[[str, str, str], None]  # type, reason, message: an event about the container
DEFAULT_REGISTRY = "docker.io"
DOCKER_HUB = ("docker.io", "index.docker.io")


class ImageFailure(Exception):
    """There is no image to run. `reason` is what the container waits for, `retry_at` when it may be tried again."""

    def __init__(self, reason: str, message: str, retry_at: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.retry_at = reason, message, retry_at


class _LastFailure(Struct):
    message: str
    at: float


class Images:
    def __init__(self, runtime: Runtime, objects: Objects, clock: Clock) -> None:
        self._runtime, self._objects, self._clock = runtime, objects, clock
        self._backoff = Backoff()
        self._failures: dict[str, _LastFailure] = {}
        self._pulls: dict[str, asyncio.Task[Image]] = {}

    async def ensure(self, pod: Object, container: Mapping[str, Any], tell: Tell) -> Image:
        """The image that a container of the pod runs, on this node."""
        name = container.get("image") or ""
        policy = container.get("imagePullPolicy") or default_policy(name)
        present = await self._runtime.image(name)
        if present is not None and policy != "Always":
            message = f'Container image "{name}" already present on machine and can be accessed by the pod'
            tell("Normal", "Pulled", message)
            return present
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise ImageFailure("ErrImageNeverPull", message)
        return await self._pull(pod, name, tell)

    async def _pull(self, pod: Object, name: str, tell: Tell) -> Image:
        key = f"{meta.uid(pod)}_{name}"
        failed, now = self._failures.get(key), self._clock.now()
        if failed is not None and (until := self._backoff.until(key, failed.at)) > now:
            message = f'Back-off pulling image "{name}"'
            tell("Normal", "BackOff", message)
            raise ImageFailure("ImagePullBackOff", f"{message}: ErrImagePull: {failed.message}", until)
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        try:
            image = await self._pull_once(pod, name)
        except RuntimeFailure as error:
            tell("Warning", "Failed", f'Failed to pull image "{name}": {error}')
            self._failures[key] = _LastFailure(str(error), self._clock.now())
            self._backoff.next(key, self._clock.now())
            raise ImageFailure("ErrImagePull", str(error), self._clock.now()) from error
        took = f"{self._clock.now() - now:.3f}s"
        size = f"Image size: {image.size_bytes} bytes."
        tell("Normal", "Pulled", f'Successfully pulled image "{name}" in {took} ({took} including waiting). {size}')
        self._failures.pop(key, None)
        self._backoff.forget(key)
        return image

    async def _pull_once(self, pod: Object, name: str) -> Image:
        """Shared by all who want the same image now; one that gives up does not stop it for the others."""
        task = self._pulls.get(name)
        if task is None:
            credentials = await self._credentials(pod, name)
            task = self._pulls[name] = asyncio.create_task(self._runtime.pull_image(name, credentials))
            task.add_done_callback(lambda done: self._pulls.pop(name, None))
        return await asyncio.shield(task)

    async def _credentials(self, pod: Object, name: str) -> Mapping[str, str] | None:
        for reference in podspec.spec(pod).get("imagePullSecrets") or ():
            try:
                secret = await self._objects.get(meta.uid(pod), SECRETS, meta.namespace(pod), reference.get("name", ""))
            except (ApiError, ConnectionError):
                continue  # a missing pull secret is no error: the image may be public
            if (found := credentials_of(secret, registry_of(name))) is not None:
                return found
        return None

    def release(self, pod_uid: str) -> None:
        for key in [key for key in self._failures if key.startswith(f"{pod_uid}_")]:
            del self._failures[key]
            self._backoff.forget(key)


def default_policy(name: str) -> str:
    tag = name.rpartition("/")[2]
    return "IfNotPresent" if "@" in tag or (":" in tag and not tag.endswith(":latest")) else "Always"


def registry_of(name: str) -> str:
    """`images.example/a/b:1` → `images.example`; a first part that is no host name means Docker Hub."""
    first, slash, _ = name.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else DEFAULT_REGISTRY


def credentials_of(secret: Object, registry: str) -> Mapping[str, str] | None:
    """User name and password for a registry in a secret of type dockerconfigjson or dockercfg."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            entries = orjson.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            entries = orjson.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return None
        return _matching(entries, registry)
    except (ValueError, binascii.Error, AttributeError):
        return None


def _matching(entries: Mapping[str, Mapping[str, str]], registry: str) -> Mapping[str, str] | None:
    names: Iterable[str] = DOCKER_HUB if registry == DEFAULT_REGISTRY else (registry,)
    for server, entry in entries.items():
        host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if host not in names:
            continue
        user, password = entry.get("username", ""), entry.get("password", "")
        if not user and entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return {"username": user, "password": password, "serveraddress": host}
    return None
