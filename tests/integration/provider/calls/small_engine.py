"""What Pulumi's engine does with one resource, in a hundred lines: it asks the provider's process over gRPC.

It checks, diffs, creates, updates, replaces, refreshes and deletes as the CLI does, and keeps inputs and outputs as the
state would, but in milliseconds. What only the CLI shows (its locks, its display, its state file) has tests of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from infra.provider.properties import decode, encode

CHECKOUT = Path(__file__).resolve().parents[4]
STACK = "urn:pulumi:small::conformance::"
SEED = b"sixteen bytes!!!"
CALL_TIMEOUT_S = 600


class Refused(Exception):
    """The provider's check said no; the failures by property path."""

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__("; ".join(failures.values()))
        self.failures = failures


class Failed(Exception):
    """A call failed, with these words for the user."""


class Words(engine_pb2_grpc.EngineServicer):
    """Takes what the provider says to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.status: list[str] = []

    def Log(self, request: Any, context: Any) -> empty_pb2.Empty:
        (self.status if request.ephemeral else self.lines).append(request.message)
        return empty_pb2.Empty()


class Provider:
    """The provider's process, configured for one libvirtd."""

    def __init__(self, uri: str, home: Path, *, shutdown_timeout_s: str = "0.1") -> None:
        """By default no guest is waited for: those of these tests have no system that would shut down."""
        self.words = Words()
        self._engine = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        engine_pb2_grpc.add_EngineServicer_to_server(self.words, self._engine)
        port = self._engine.add_insecure_port("127.0.0.1:0")
        self._engine.start()
        environment = {
            **os.environ,
            "PULUMI_HOME": str(home),
            "SAMPAN_SHUTDOWN_TIMEOUT_S": shutdown_timeout_s,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.provider", f"127.0.0.1:{port}"],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{self.port}"))
        self.call("Handshake", provider_pb2.ProviderHandshakeRequest(engine_address=f"127.0.0.1:{port}"))
        self.call("Configure", provider_pb2.ConfigureRequest(args=encode({"uri": uri}), acceptSecrets=True))

    def call(self, name: str, request: Any) -> Any:
        try:
            return getattr(self.stub, name)(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            if (partly := _partly(error)) is not None:
                raise partly from error
            raise Failed(error.details()) from error

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)
        self._engine.stop(0)


class Partly(Failed):
    """It is there, and not yet as asked."""

    def __init__(self, detail: Any) -> None:
        super().__init__("; ".join(detail.reasons))
        self.id = detail.id
        self.inputs = decode(detail.inputs).values
        self.outputs = decode(detail.properties).values


def _partly(error: Any) -> Partly | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            detail = provider_pb2.ErrorResourceInitFailed()
            if status.details and status.details[0].Unpack(detail):
                return Partly(detail)
    return None


@dataclass
class Resource:
    """One resource of a program, from `kind` (Network, Domain …) and its name in the program."""

    provider: Provider
    kind: str
    name: str
    stack: str = STACK
    id: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    failed: bool = False
    timeout_s: float = 0  # as custom timeouts have it
    diff: dict[str, str] = field(default_factory=dict)

    @property
    def urn(self) -> str:
        return f"{self.stack}libvirt:index/{self.kind[0].lower()}{self.kind[1:]}:{self.kind}::{self.name}"

    def check(self, inputs: dict[str, Any]) -> dict[str, Any]:
        request = provider_pb2.CheckRequest(
            urn=self.urn, olds=encode(self.inputs), news=encode(inputs), randomSeed=SEED
        )
        answer = self.provider.call("Check", request)
        if answer.failures:
            raise Refused({failure.property: failure.reason for failure in answer.failures})
        return decode(answer.inputs).values

    def up(self, inputs: dict[str, Any]) -> str:
        """As a program with these inputs would have it: create, same, update or replace."""
        checked = self.check(inputs)
        if not self.id:
            self._create(checked)
            return "create"
        answer = self._diff(checked)
        if answer.replaces:
            self.delete()
            self._create(self.check(inputs))
            return "replace"
        if answer.changes == provider_pb2.DiffResponse.DIFF_NONE and not self.failed:
            self.inputs = checked
            return "same"
        request = provider_pb2.UpdateRequest(
            urn=self.urn,
            id=self.id,
            old_inputs=encode(self.inputs),
            olds=encode(self.outputs),
            news=encode(checked),
            timeout=self.timeout_s,
        )
        try:
            self.outputs = decode(self.provider.call("Update", request).properties).values
        except Partly as partly:
            self._keep(partly)
            raise
        self.inputs, self.failed = checked, False
        return "update"

    def preview(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs as a preview would show them."""
        checked = self.check(inputs)
        if not self.id:
            request: Any = provider_pb2.CreateRequest(urn=self.urn, properties=encode(checked), preview=True)
            return decode(self.provider.call("Create", request).properties).values
        self._diff(checked)
        request = provider_pb2.UpdateRequest(
            urn=self.urn,
            id=self.id,
            old_inputs=encode(self.inputs),
            olds=encode(self.outputs),
            news=encode(checked),
            preview=True,
        )
        return decode(self.provider.call("Update", request).properties).values

    def refresh(self) -> bool:
        """Whether it is still there. What it lacks to be healthy makes the next `up` an update."""
        request = provider_pb2.ReadRequest(
            urn=self.urn, id=self.id, inputs=encode(self.inputs), properties=encode(self.outputs)
        )
        try:
            answer = self.provider.call("Read", request)
        except Partly as partly:
            self._keep(partly)
            return True
        if not answer.id:
            self.id, self.inputs, self.outputs = "", {}, {}
            return False
        self.id, self.failed = answer.id, False
        self.inputs, self.outputs = decode(answer.inputs).values, decode(answer.properties).values
        return True

    def take_over(self, id: str) -> dict[str, Any]:
        """An import; the inputs that the program would have to have."""
        answer = self.provider.call("Read", provider_pb2.ReadRequest(urn=self.urn, id=id))
        assert answer.id, f"there is no {self.kind} {id} to import"
        self.id = answer.id
        self.inputs, self.outputs = decode(answer.inputs).values, decode(answer.properties).values
        return dict(self.inputs)

    def delete(self) -> None:
        if self.id:
            request = provider_pb2.DeleteRequest(urn=self.urn, id=self.id, properties=encode(self.outputs))
            self.provider.call("Delete", request)
        self.id, self.inputs, self.outputs, self.failed = "", {}, {}, False

    def forget(self) -> None:
        """As a CLI that was killed: what is there, the state does not know."""
        self.id, self.inputs, self.outputs, self.failed = "", {}, {}, False

    def _create(self, checked: dict[str, Any]) -> None:
        request = provider_pb2.CreateRequest(urn=self.urn, properties=encode(checked), timeout=self.timeout_s)
        try:
            answer = self.provider.call("Create", request)
        except Partly as partly:
            self._keep(partly)
            raise
        self.id, self.inputs, self.failed = answer.id, checked, False
        self.outputs = decode(answer.properties).values

    def _diff(self, checked: dict[str, Any]) -> Any:
        request = provider_pb2.DiffRequest(
            urn=self.urn, id=self.id, old_inputs=encode(self.inputs), olds=encode(self.outputs), news=encode(checked)
        )
        answer = self.provider.call("Diff", request)
        kinds = provider_pb2.PropertyDiff.Kind
        self.diff = {path: kinds.Name(each.kind).lower() for path, each in answer.detailedDiff.items()}
        return answer

    def _keep(self, partly: Partly) -> None:
        self.id, self.inputs, self.outputs, self.failed = partly.id, partly.inputs, partly.outputs, True
