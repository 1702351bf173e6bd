"""Admission webhooks: who decides about a write besides the server itself.

Mutating webhooks are asked one after the other, in the order of their configurations' names, and each sees what those
before it made of the object; one with reinvocationPolicy IfNeeded is asked again where a later one changed it.
Validating webhooks are asked all at once, about the final object. A webhook that cannot be asked counts as its
failurePolicy says. Source: Reference, "Dynamic Admission Control"; admission.k8s.io/v1 AdmissionReview.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

import orjson
from msgspec import Struct

from orchestrator.api import decoding, meta
from orchestrator.api.kinds import registry
from orchestrator.api.meta import Object
from orchestrator.api.patch import json_patch
from orchestrator.api.resources import (
    MUTATINGWEBHOOKCONFIGURATIONS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    Resource,
    ResourceTable,
)
from orchestrator.api.status import ApiError, BadRequest, Cause, InternalError
from orchestrator.apiserver.admission.timing import Timing
from orchestrator.apiserver.conversion import Conversion
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.webhooks import matching
from orchestrator.apiserver.webhooks.caller import Caller, CallFailed
from orchestrator.apiserver.webhooks.conversion import Conversions, NeedsConversion
from orchestrator.apiserver.webhooks.matching import Asked

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
TIMEOUT_S = 10


class Conditions(Protocol):
    """Evaluates `matchConditions`: whether all are true. ApiError where one cannot be evaluated and the policy says
    that this is a failure."""

    def hold(self, conditions: list[Any], attributes: Attributes, failure_policy: str, name: str) -> bool: ...


class Denied(ApiError):
    """What a webhook refused, with the Status that it gave: its code and reason, whatever they are."""

    def __init__(self, name: str, status: Json) -> None:
        by = f'admission webhook "{name}" denied the request'
        why = status.get("message") or status.get("reason") or ""
        details = {key: value for key, value in (status.get("details") or {}).items() if key != "causes"}
        causes = [
            Cause(one.get("field") or "", one.get("reason") or "", one.get("message") or "")
            for one in (status.get("details") or {}).get("causes") or ()
        ]
        code = int(status.get("code") or 0)
        message = f"{by}: {why}" if why else f"{by} without explanation"
        super().__init__(message, details=details, causes=causes, code=code if code >= 400 else 400)
        self._reason = status.get("reason") or ""

    def to_status(self) -> dict[str, Any]:
        made = super().to_status()
        return {**made, "reason": self._reason} if self._reason else made


class Invocation(Struct, frozen=True):
    hook: Json
    asked: Asked

    @property
    def name(self) -> str:
        return str(self.hook.get("name") or "")

    @property
    def fails_open(self) -> bool:
        return self.hook.get("failurePolicy") == "Ignore"


class Webhooks:
    """What both kinds share. `convert` shows an object in another served version."""

    resource: Resource
    is_mutating: bool

    def __init__(
        self,
        lookup: Lookup,
        table: ResourceTable,
        caller: Caller,
        conversions: Conversions,
        conditions: Conditions | None = None,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        timing: Timing | None = None,
    ) -> None:
        self._lookup, self._table, self._caller, self._conditions = lookup, table, caller, conditions
        self._conversions = conversions
        self._new_uid = new_uid
        self._timing = timing or Timing()
        self._configurations: dict[str, Object] = {}
        lookup.subscribe(self.resource, self._changed)

    operations = OPERATIONS
    resources = ("*", "*/*")

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._configurations.pop(meta.name(old or {}), None)
        else:
            self._configurations[meta.name(new)] = new

    def _invocations(self, attributes: Attributes) -> list[Callable[[], Invocation | None]]:
        """What may have to be asked, in order; each is looked at only when its turn comes."""
        if not self._configurations or matching.is_exempt(attributes):
            return []
        others = matching.equivalents(self._table, attributes)

        def look(hook: Json) -> Callable[[], Invocation | None]:
            return lambda: self._invocation(hook, attributes, others)

        return [
            look(hook)
            for name in sorted(self._configurations)
            for hook in self._configurations[name].get("webhooks") or ()
        ]

    def _invocation(self, hook: Json, attributes: Attributes, others: list[Resource]) -> Invocation | None:
        asked = matching.matched(hook, attributes, others)
        if asked is None or not matching.matches_object(hook.get("objectSelector"), attributes):
            return None
        if not matching.matches_namespace(hook.get("namespaceSelector"), attributes, self._lookup):
            return None
        if wanted := hook.get("matchConditions"):
            if self._conditions is None:
                raise InternalError("match conditions cannot be evaluated by this server")
            policy, name = hook.get("failurePolicy") or "Fail", str(hook.get("name"))
            if not self._conditions.hold(wanted, attributes, policy, name):
                return None
        return Invocation(hook, asked)

    async def _ask(self, invocation: Invocation, attributes: Attributes) -> Json:
        """The `response`, if it allows. Errors: Denied, CallFailed, BadRequest."""
        hook = invocation.hook
        if attributes.dry_run and hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise BadRequest(f'admission webhook "{invocation.name}" does not support dry run')
        version = next((one for one in hook.get("admissionReviewVersions") or () if one in ("v1", "v1beta1")), "")
        if not version:
            why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)"
            raise CallFailed(f"could not create admission objects: {why}")
        uid = self._new_uid()
        review = await self._converted(lambda: review_of(uid, version, self._view(invocation.asked, attributes)))
        timeout_s = float(hook.get("timeoutSeconds") or TIMEOUT_S)
        answer = await self._caller.ask(hook.get("clientConfig") or {}, review, timeout_s)
        response = self._verified(answer, uid, version)
        attributes.warnings += [str(text) for text in response.get("warnings") or ()]
        if not response.get("allowed"):
            raise Denied(invocation.name, response.get("status") or {})
        return response

    def _view(self, asked: Asked, attributes: Attributes) -> View:
        row = self._table.find(asked.group, asked.version, asked.resource) or attributes.row
        assert row is not None
        return View(asked, attributes, row, self._conversions.of(row))

    async def _converted(self, step: Callable[[], Object]) -> Object:
        while True:
            try:
                return step()
            except NeedsConversion as needs:
                await needs.ask()

    def _verified(self, answer: Object, uid: str, version: str) -> Json:
        invalid = "received invalid webhook response: "
        response = answer.get("response")
        if not isinstance(response, dict):
            raise CallFailed(f"{invalid}webhook response was absent")
        if version != "v1":
            return response
        if response.get("uid") != uid:
            raise CallFailed(f'{invalid}expected response.uid="{uid}", got "{response.get("uid") or ""}"')
        found = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
        if found != "admission.k8s.io/v1, Kind=AdmissionReview":
            wanted = "admission.k8s.io/v1, Kind=AdmissionReview"
            raise CallFailed(f"{invalid}expected webhook response of {wanted}, got {found}")
        patch, kind = response.get("patch"), response.get("patchType")
        if self.is_mutating and bool(patch) is not (kind is not None):
            what = ("response.patch", "response.patchType") if patch else ("response.patchType", "response.patch")
            raise CallFailed(f"{invalid}webhook returned {what[0]} but not {what[1]}")
        if not self.is_mutating and (patch or kind is not None):
            name = "response.patch" if patch else "response.patchType"
            raise CallFailed(f"{invalid}validating webhook may not return {name}")
        return response

    async def _decided(self, invocation: Invocation, work: Awaitable[Any], operation: str) -> Any:
        """The result of asking; None where the webhook failed and that is to be ignored."""
        started, is_refused = perf_counter(), True
        try:
            found = await self._undecided(invocation, work)
            is_refused = False
            return found
        finally:
            step = ("admit" if self.is_mutating else "validating", operation, is_refused)
            self._timing.webhook(invocation.name, step).observe(perf_counter() - started)

    async def _undecided(self, invocation: Invocation, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except CallFailed as error:
            if invocation.fails_open:
                log.warning("webhook failed, ignored", extra={"webhook": invocation.name, "error": str(error)})
                return None
            why = f'failed calling webhook "{invocation.name}": {error}'
            raise InternalError(f"Internal error occurred: {why}") from error


class MutatingWebhooks(Webhooks):
    resource = MUTATINGWEBHOOKCONFIGURATIONS
    is_mutating = True

    async def mutate(self, attributes: Attributes) -> None:
        again: list[Invocation] = []
        repeat: list[Invocation] = []
        for look in self._invocations(attributes):
            invocation = look()
            if invocation is None:
                continue
            if await self._decided(invocation, self._one(invocation, attributes), attributes.operation):
                repeat = list(again)  # those before it have not seen what it made
            if invocation.hook.get("reinvocationPolicy") == "IfNeeded":
                again.append(invocation)
        for invocation in repeat:
            await self._decided(invocation, self._one(invocation, attributes), attributes.operation)

    async def _one(self, invocation: Invocation, attributes: Attributes) -> bool:
        """Whether the webhook changed the object."""
        response = await self._ask(invocation, attributes)
        if not response.get("patch"):
            return False
        if response.get("patchType", "JSONPatch") != "JSONPatch":
            raise CallFailed(f'unsupported patch type "{response["patchType"]}"')
        try:
            operations = orjson.loads(base64.b64decode(response["patch"]))
        except (binascii.Error, orjson.JSONDecodeError) as error:
            raise CallFailed(f"received undecodable patch in webhook response: {error}") from error
        if not operations:
            return False
        if attributes.object is None:
            who = f'admission webhook "{invocation.name}"'
            why = "attempted to modify the object, which is not supported for this operation"
            raise InternalError(f"Internal error occurred: {who} {why}")
        made: Object = await self._converted(
            lambda: _patched(attributes, operations, self._view(invocation.asked, attributes))
        )
        if made == attributes.object:
            return False
        attributes.object.clear()
        attributes.object.update(made)
        return True


class ValidatingWebhooks(Webhooks):
    resource = VALIDATINGWEBHOOKCONFIGURATIONS
    is_mutating = False

    async def validate(self, attributes: Attributes) -> None:
        wanted = [found for look in self._invocations(attributes) if (found := look()) is not None]
        if not wanted:
            return
        operation = attributes.operation
        work = (self._decided(invocation, self._ask(invocation, attributes), operation) for invocation in wanted)
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


# -- reviews -----------------------------------------------------------------------------------------------------------


class View(Struct, frozen=True):
    """A request in terms of the resource that a webhook's rule names, served as `row`. Objects are handed to admission
    as they are kept."""

    asked: Asked
    attributes: Attributes
    row: Resource
    conversion: Conversion | None

    def shown(self, obj: Object | None) -> Object | None:
        if obj is None or not self.is_whole or self.conversion is None:
            return obj
        return self.conversion.to_served(obj)

    @property
    def is_whole(self) -> bool:
        """The object itself, not the body of a subresource."""
        return self.attributes.subresource in ("", "status")


def review_of(uid: str, version: str, view: View) -> Object:
    """The AdmissionReview about a request."""
    asked, attributes = view.asked, view.attributes
    kind = _kind(attributes)
    group, _, kind_version = kind["apiVersion"].rpartition("/")
    request_kind = {"group": group, "version": kind_version, "kind": kind["kind"]}
    is_own = (asked.group, asked.version) == (attributes.group, attributes.version)
    asked_kind = request_kind if is_own else {"group": asked.group, "version": asked.version, "kind": kind["kind"]}
    request: Object = {
        "uid": uid,
        "kind": asked_kind,
        "resource": {"group": asked.group, "version": asked.version, "resource": asked.resource},
        "requestKind": request_kind,
        "requestResource": {
            "group": attributes.group, "version": attributes.version, "resource": attributes.resource,
        },
        "operation": attributes.operation,
        "userInfo": user_info(attributes),
        "object": view.shown(attributes.object),
        "oldObject": view.shown(attributes.old_object),
        "dryRun": attributes.dry_run,
        "options": dict(attributes.options) or None,
    }  # fmt: skip
    if attributes.subresource:
        request |= {"subResource": attributes.subresource, "requestSubResource": attributes.subresource}
    if attributes.name:
        request["name"] = attributes.name
    if attributes.namespace:
        request["namespace"] = attributes.namespace
    return {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}


def user_info(attributes: Attributes) -> Object:
    user = attributes.user
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _kind(attributes: Attributes) -> Object:
    """apiVersion and kind of what is sent: a subresource may have its own."""
    row = attributes.row
    assert row is not None
    sub = row.subresource(attributes.subresource) if attributes.subresource else None
    if sub is not None and sub.kind:
        return {"apiVersion": sub.group_version or row.api_version, "kind": sub.kind}
    return {"apiVersion": row.api_version, "kind": row.kind}


def _patched(attributes: Attributes, operations: list[Any], view: View) -> Object:
    """What a webhook's patch makes of the object, decoded and defaulted again, as it is to be kept."""
    try:
        made: Object = meta.copied(json_patch.apply(view.shown(attributes.object), operations))
    except json_patch.JsonPatchError as error:
        raise InternalError(f"Internal error occurred: {error}") from error
    if view.is_whole:
        decoding.decode_as(made, view.row)
        if view.conversion is not None:
            made = view.conversion.to_stored(made)
        assert attributes.row is not None
        registry.rules(attributes.row).default(made)
    return made
