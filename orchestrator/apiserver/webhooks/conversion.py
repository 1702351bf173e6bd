"""Conversion between the versions of a custom resource: by name only, or by the webhook of its definition.

What the server does with an object is synchronous, a webhook is not. So a webhook's conversions are remembered, and a
step that needs one that is not known raises NeedsConversion; whoever carried the request asks for it and takes the step
again. Steps that read many objects ask for all of them first. Nothing is written before all conversions are known.
Source: apiextensions/v1 ConversionReview; Tasks, "Versions in CustomResourceDefinitions".
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.status import InternalError
from orchestrator.apiserver.conversion import CONVERSIONS, Conversion, custom_conversion
from orchestrator.apiserver.webhooks.caller import Caller, CallFailed

REMEMBERED_MIN = 4096
TIMEOUT_S = 30.0
PREFIX = "failed to call webhook: "
Key = tuple[str, bytes]


class NeedsConversion(Exception):
    """Conversions that a webhook must be asked for first: `webhook.ask(objects, api_version)`."""

    def __init__(self, webhook: Webhook, obj: Object, api_version: str) -> None:
        super().__init__(f"{obj.get('kind')} to {api_version}")
        self.webhook, self.objects, self.api_version = webhook, [obj], api_version

    async def ask(self) -> None:
        await self.webhook.ask(self.objects, self.api_version)


class Webhook:
    """The conversion webhook of one definition."""

    def __init__(self, caller: Caller | None, config: Mapping[str, Any]) -> None:
        self._caller, self._config = caller, config
        self._known: OrderedDict[Key, bytes] = OrderedDict()
        self._remembered = REMEMBERED_MIN

    def converted(self, obj: Object, api_version: str) -> Object:
        """Errors: NeedsConversion."""
        if obj.get("apiVersion") == api_version:
            return obj
        found = self._known.get(_key(obj, api_version))
        if found is None:
            raise NeedsConversion(self, obj, api_version)
        made: Object = orjson.loads(found)
        kept, theirs = meta.copied(obj["metadata"]), made["metadata"]
        for name in ("labels", "annotations"):  # all that a webhook may change of the metadata
            kept.pop(name, None)
            if theirs.get(name):
                kept[name] = theirs[name]
        return {**made, "metadata": kept}

    async def ask(self, objects: Sequence[Object], api_version: str) -> None:
        """Makes the conversions of `objects` known. Errors: InternalError in kube-apiserver's words."""
        missing = {_key(obj, api_version): obj for obj in objects if obj.get("apiVersion") != api_version}
        missing = {key: obj for key, obj in missing.items() if key not in self._known}
        if not missing:
            return
        self._remembered = max(self._remembered, 2 * len(objects))
        first = next(iter(missing.values()))
        group_version = f"{first.get('apiVersion')}, Kind={first.get('kind')}"
        try:
            answers = await self._review(list(missing.values()), api_version)
        except CallFailed as error:
            why = str(error).removeprefix(PREFIX)
            raise InternalError(f"conversion webhook for {group_version} failed: {why}") from error
        for (key, obj), answer in zip(missing.items(), answers, strict=True):
            if why := _why_not(obj, answer, api_version):
                raise InternalError(f"conversion webhook for {group_version} returned invalid converted object: {why}")
            self._known[key] = orjson.dumps(answer)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    async def _review(self, objects: list[Object], api_version: str) -> list[Any]:
        versions = self._config.get("conversionReviewVersions") or ()
        version = next((one for one in versions if one in ("v1", "v1beta1")), "v1")
        uid = str(uuid.uuid4())
        request = {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}
        review: Object = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": request,
        }
        if self._caller is None:
            raise CallFailed("this server calls no webhooks")
        answer = await self._caller.ask(self._config.get("clientConfig") or {}, review, TIMEOUT_S)
        response = answer.get("response")
        if not isinstance(response, dict):
            raise CallFailed("no response provided")
        if version == "v1" and response.get("uid") != uid:
            raise CallFailed(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
        result = response.get("result") or {}
        if result.get("status") != "Success":
            text = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
            raise CallFailed(result.get("message") or text)
        found = response.get("convertedObjects") or []
        if len(found) != len(objects):
            raise CallFailed(f"returned {len(found)} objects, expected {len(objects)}")
        return list(found)


def _key(obj: Object, api_version: str) -> Key:
    """Two revisions of the same content convert alike."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    return api_version, orjson.dumps({**obj, "metadata": metadata}, option=orjson.OPT_SORT_KEYS)


def _why_not(obj: Object, made: Any, api_version: str) -> str:
    if not isinstance(made, dict) or not isinstance(made.get("metadata"), dict):
        return "missing metadata in converted object"
    if made.get("apiVersion") != api_version:
        return f"invalid groupVersion (expected {api_version}, received {made.get('apiVersion') or ''})"
    if made.get("kind") != obj.get("kind"):
        return f"must have the same kind: {obj.get('kind')} != {made.get('kind') or ''}"
    for name, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = obj["metadata"].get(name) or "", made["metadata"].get(name) or ""
        if before != after:
            return f"must have the same {shown}: {before} != {after}"
    return ""


class Conversions:
    """The conversion of every row: built in, by name, or by webhook."""

    def __init__(self, caller: Caller | None = None) -> None:
        self._caller = caller
        self._webhooks: dict[bytes, Webhook] = {}

    def of(self, resource: Resource) -> Conversion | None:
        """Between `resource` and what is kept; None where they are the same."""
        custom = resource.custom
        if custom is None:
            return CONVERSIONS.get(resource)
        if not resource.storage_group_version:
            return None
        group, _, version = resource.storage_group_version.rpartition("/")
        stored = replace(resource, group=group, version=version)
        if (webhook := self.webhook(resource)) is None:
            return custom_conversion(resource, stored)
        return Conversion(_to(webhook, stored.api_version), _to(webhook, resource.api_version), is_remote=True)

    def webhook(self, resource: Resource) -> Webhook | None:
        custom = resource.custom
        if custom is None or custom.conversion.get("strategy") != "Webhook":
            return None
        text = orjson.dumps([resource.group_resource, custom.conversion])
        if text not in self._webhooks:
            if len(self._webhooks) > 256:
                self._webhooks.clear()
            self._webhooks[text] = Webhook(self._caller, custom.conversion.get("webhook") or {})
        return self._webhooks[text]

    async def ready(self, resource: Resource, objects: Iterable[Object], api_version: str) -> None:
        """Asks for what a step will need."""
        if (webhook := self.webhook(resource)) is not None:
            await webhook.ask(list(objects), api_version)


def _to(webhook: Webhook, api_version: str) -> Callable[[Object], Object]:
    return lambda obj: webhook.converted(obj, api_version)
