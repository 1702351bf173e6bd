"""What the engine says, as lines for a person."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.automation.events import EngineEvent

from infra.libvirt.events import Line, Reader, plain

DOMAIN = "libvirt:index/domain:Domain"
NODE = "pulumi-python:dynamic/sampan:NodeInstall"


def step(kind: str, name: str, operation: str, at: int, *, ended: bool) -> EngineEvent:
    urn = f"urn:pulumi:dev::p::{kind}::{name}"
    metadata = {"op": operation, "urn": urn, "type": kind, "provider": ""}
    event = "resOutputsEvent" if ended else "resourcePreEvent"
    return EngineEvent.from_json({"sequence": 0, "timestamp": at, event: {"metadata": metadata}})


def said(message: str, severity: str = "info", ephemeral: bool = False) -> EngineEvent:
    data: dict[str, Any] = {"message": message, "severity": severity, "ephemeral": ephemeral, "color": "never"}
    return EngineEvent.from_json({"sequence": 0, "timestamp": 0, "diagnosticEvent": data})


def test_a_step_is_one_line_with_its_seconds() -> None:
    reader = Reader()
    assert list(reader.read(step(DOMAIN, "worker-1", "create", 10, ended=False))) == [
        Line("status", "machine worker-1 …")
    ]
    assert list(reader.read(step(DOMAIN, "worker-1", "create", 13, ended=True))) == [
        Line("done", "machine worker-1 made (3 s)")
    ]
    assert reader.changes == 1


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        pytest.param(step(DOMAIN, "w", "same", 0, ended=True), [], id="unchanged"),
        pytest.param(step("pulumi:pulumi:Stack", "s", "create", 0, ended=True), [], id="the-stack-itself"),
        pytest.param(step(NODE, "w", "update", 0, ended=True), [Line("done", "node w is Ready again")], id="installed"),
        pytest.param(step(NODE, "w", "delete", 0, ended=True), [Line("done", "node w has left")], id="left"),
        pytest.param(step(DOMAIN, "w", "refresh", 0, ended=True), [], id="looked-at"),
        pytest.param(said("registering", "debug"), [], id="for-developers"),
        pytest.param(
            said("w: waiting for SSH", ephemeral=True), [Line("progress", "w: waiting for SSH")], id="progress"
        ),
        pytest.param(said("a guest is slow", "warning"), [Line("note", "a guest is slow")], id="warning"),
        pytest.param(said("error: update failed", "error"), [], id="the-frame-of-an-error"),
    ],
)
def test_each_event_has_its_line_or_none(event: EngineEvent, lines: list[Line]) -> None:
    assert list(Reader().read(event)) == lines


def test_an_error_is_said_once_and_kept() -> None:
    reader = Reader()
    event = said("error: node w: step 'health': no answer\n", "error")
    assert list(reader.read(event)) == [Line("error", "node w: step 'health': no answer")]
    assert list(reader.read(event)) == []
    assert reader.errors == ["node w: step 'health': no answer"]


def test_an_error_keeps_its_own_words() -> None:
    assert plain("error: Exception calling application: name: 'a': is taken") == "name: 'a': is taken"
