"""The provider's side of Pulumi's protocol: each call decoded, given to its resource, and answered.

Calls come in parallel, each in a thread of gRPC's pool; libvirt's binding lets other threads run while it waits.
A preview touches nothing. An error reaches the user as it was raised: our own errors are written for them.
Source: pulumi/pulumi sdk/proto/provider.proto, whose comments are the reference of each call.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from infra.provider import invokes
from infra.provider.binding import DEFAULT_URI, BindingError, ConnectionFailed, Connections, libvirt
from infra.provider.checking import check
from infra.provider.difference import Change, changes, overlay
from infra.provider.engine import Engine
from infra.provider.properties import UNKNOWN, Values, decode, encode, known
from infra.provider.resource import Context, InitializationFailed, ProviderError, Resource
from infra.provider.schema import schema

log = logging.getLogger(__name__)

VERSION = "0.5.4"  # of the SDK whose provider this is
KINDS = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}
Answer = TypeVar("Answer")


class _Partly(Exception):
    """A failed initialization with what the answer needs besides."""

    def __init__(self, failed: InitializationFailed, inputs: Values, secret: frozenset[str]) -> None:
        super().__init__(str(failed))
        self.failed, self.inputs, self.secret = failed, inputs, secret


def answering(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """Errors become gRPC statuses: the user's words for ours, libvirt's own for libvirt's."""

    @wraps(call)
    def answered(self: Any, request: Any, context: grpc.ServicerContext) -> Answer:
        try:
            return call(self, request, context)
        except _Partly as partly:
            _fail_initialization(context, partly)
        except (ProviderError, ConnectionFailed, BindingError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except libvirt.libvirtError as error:
            context.abort(grpc.StatusCode.UNKNOWN, f"libvirt: {error.get_error_message() or error}")
        except Exception as error:  # the last resort: a fault of ours must not be a bare "unknown"
            log.exception("a call failed", extra={"call": call.__name__})
            context.abort(grpc.StatusCode.INTERNAL, f"{call.__name__} failed: {type(error).__name__}: {error}")
        raise AssertionError("abort raises")

    return answered


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self, resources: tuple[Resource, ...], engine: Engine) -> None:
        self.resources: Mapping[str, Resource] = {resource.token: resource for resource in resources}
        self.engine = engine
        self.connections = Connections()
        self.cancelled = threading.Event()
        self.uri = ""

    def stop(self) -> None:
        """Before this process ends: what waits for a guest gives up."""
        self.cancelled.set()

    # -- the provider itself

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ProviderHandshakeResponse:
        if request.engine_address:
            self.engine.connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.engine.connect(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    @answering
    def GetSchema(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema(self.resources.values(), VERSION)))

    @answering
    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        """The URI in effect goes into the state, so that a changed LIBVIRT_DEFAULT_URI is noticed."""
        given = decode(request.news)
        inputs = {**given.values, "uri": _effective_uri(given.values)}
        failures = [
            provider_pb2.CheckFailure(property=name, reason=f"provider libvirt: {name}: no such property (only uri)")
            for name in inputs.keys() - {"uri", "version", "pluginDownloadURL"}
        ]
        return provider_pb2.CheckResponse(inputs=encode(inputs, given.secret), failures=failures)

    @answering
    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Another URI is the same provider on another road; what is not found there, a refresh will tell."""
        olds = request.old_inputs if request.HasField("old_inputs") else request.olds
        same = decode(olds).values.get("uri") == decode(request.news).values.get("uri")
        if same:
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_SOME, diffs=["uri"])

    @answering
    def Configure(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConfigureResponse:
        given = decode(request.args).values
        self.uri = _effective_uri(given) if given.get("uri") is not UNKNOWN else ""
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    @answering
    def Invoke(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        given = decode(request.args)
        function = invokes.FUNCTIONS.get(request.tok)
        if function is None:
            raise ProviderError(f"{request.tok}: this provider has no such function")
        result, failures = function(given.values, self._connect)
        answer = provider_pb2.InvokeResponse(
            failures=[provider_pb2.CheckFailure(property=each.path, reason=each.reason) for each in failures]
        )
        getattr(answer, "return").CopyFrom(encode(result))
        return answer

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """The user pressed ^C: whoever waits for a guest gives up."""
        self.cancelled.set()
        return empty_pb2.Empty()

    # -- resources

    @answering
    def Check(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        given = decode(request.news)
        resource = self._resource(request.urn)
        secret = given.secret | resource.secret
        old = decode(request.olds).values
        inputs, failures = check(resource, old, given.values, _name_of(request.urn), request.randomSeed, secret)
        return provider_pb2.CheckResponse(
            inputs=encode(inputs, secret),
            failures=[provider_pb2.CheckFailure(property=each.path, reason=each.reason) for each in failures],
        )

    @answering
    def Diff(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        resource = self._resource(request.urn)
        old, new = decode(request.old_inputs).values, decode(request.news).values
        return _difference(changes(resource, old, new))

    @answering
    def Create(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        resource, given = self._resource(request.urn), decode(request.properties)
        secret = given.secret | resource.secret
        if request.preview:
            shown = overlay(None, given.values, resource.computed)
            return provider_pb2.CreateResponse(properties=encode(shown, secret))
        try:
            id, outputs = resource.create(self._context(request), given.values)
        except InitializationFailed as failed:
            raise _Partly(failed, given.values, secret) from failed
        return provider_pb2.CreateResponse(id=id, properties=encode(outputs, secret))

    @answering
    def Read(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        resource = self._resource(request.urn)
        outputs, inputs = decode(request.properties), decode(request.inputs)
        secret = outputs.secret | inputs.secret | resource.secret
        try:
            seen = resource.read(self._context(request), request.id, inputs.values, outputs.values)
        except InitializationFailed as failed:  # a refresh goes on, and the next update is one of this resource
            raise _Partly(failed, inputs.values if failed.inputs is None else failed.inputs, secret) from failed
        if seen is None:
            return provider_pb2.ReadResponse()  # an empty id: it is gone
        id, now_inputs, now_outputs = seen
        return provider_pb2.ReadResponse(
            id=id, inputs=encode(now_inputs, secret), properties=encode(now_outputs, secret)
        )

    @answering
    def Update(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        resource = self._resource(request.urn)
        old, outputs, given = decode(request.old_inputs), decode(request.olds), decode(request.news)
        secret = given.secret | resource.secret
        changed = frozenset(change.top for change in changes(resource, old.values, given.values))
        for line in resource.consequences(
            changed, old.values, given.values
        ):  # not in Diff: a refresh asks that as well
            self.engine.note(request.urn, line)
        if request.preview:
            shown = overlay(outputs.values, given.values, resource.computed)
            return provider_pb2.UpdateResponse(properties=encode(shown, secret))
        try:
            now = resource.update(self._context(request), request.id, old.values, outputs.values, given.values)
        except InitializationFailed as failed:
            raise _Partly(failed, given.values, secret) from failed
        return provider_pb2.UpdateResponse(properties=encode(now, secret))

    @answering
    def Delete(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        resource = self._resource(request.urn)
        resource.delete(self._context(request), request.id, known(decode(request.properties).values))
        return empty_pb2.Empty()

    def _resource(self, urn: str) -> Resource:
        token = urn.split("::")[2].rpartition("$")[2]
        try:
            return self.resources[token]
        except KeyError:
            raise ProviderError(f"{token}: this provider has no such resource") from None

    def _connect(self) -> Any:
        if not self.uri:
            raise ProviderError(
                "the provider's uri is not known yet: it comes from a resource that is still to be made"
            )
        return self.connections.get(self.uri)

    def _context(self, request: Any) -> Context:
        urn = request.urn
        return Context(
            urn=urn,
            uri=self.uri,
            connection=self._connect(),
            say=lambda message: self.engine.say(urn, message),
            note=lambda message: self.engine.note(urn, message),
            warn=lambda message: self.engine.warn(urn, message),
            timeout_s=getattr(request, "timeout", 0.0),
            cancelled=self.cancelled,
        )


def _difference(found: list[Change]) -> provider_pb2.DiffResponse:
    """What libvirt has is had once (a name, a subnet, a disk): the old one goes before the new one comes."""
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=sorted({change.top for change in found}),
        replaces=sorted({change.top for change in found if change.replaces}),
        deleteBeforeReplace=any(change.replaces for change in found),
        hasDetailedDiff=True,
        detailedDiff={
            change.path: provider_pb2.PropertyDiff(kind=KINDS[change.kind, change.replaces], inputDiff=True)
            for change in found
        },
    )


def _effective_uri(given: Mapping[str, Any]) -> str:
    return given.get("uri") or os.environ.get("LIBVIRT_DEFAULT_URI") or DEFAULT_URI


def _name_of(urn: str) -> str:
    return urn.rpartition("::")[2]


def _fail_initialization(context: grpc.ServicerContext, partly: _Partly) -> None:
    """The status that lets Pulumi save what there is, and update it at the next run although no input changes."""
    detail = provider_pb2.ErrorResourceInitFailed(
        id=partly.failed.id,
        properties=encode(partly.failed.outputs, partly.secret),
        inputs=encode(partly.inputs, partly.secret),
        reasons=[str(partly.failed)],
    )
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(partly.failed), details=[packed])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, str(partly.failed))
