from __future__ import annotations

from orchestrator.api.clock import FixedClock
from orchestrator.api.wire import Identity
from orchestrator.client.client import Client
from orchestrator.client.events import SPAM_BURST, EventRecorder
from orchestrator.client.inprocess import InProcessTransport
from tests.unit.client.small_server import SmallServer

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}


def made(server: SmallServer) -> EventRecorder:
    client = Client(InProcessTransport(server.handle, Identity("test")))
    return EventRecorder(client, "kubelet", "n1", FixedClock())


async def test_an_event_says_who_what_and_why() -> None:
    server = SmallServer()
    recorder = made(server)
    recorder.event(POD, "Normal", "Started", "Started container web", field_path="spec.containers{web}")
    await recorder.close()
    (event,) = server.objects.values()
    assert server.requests[0].path == "/api/v1/namespaces/shop/events"
    assert event["involvedObject"]["fieldPath"] == "spec.containers{web}"
    assert (event["source"], event["count"]) == ({"component": "kubelet", "host": "n1"}, 1)
    assert event["firstTimestamp"] == "2023-11-14T22:13:20Z"


async def test_the_same_event_again_raises_its_count() -> None:
    server = SmallServer()
    recorder = made(server)
    for _ in range(3):
        recorder.event(POD, "Warning", "BackOff", "restarting")
    await recorder.close()
    assert [event["count"] for event in server.objects.values()] == [3]


async def test_many_similar_events_become_one() -> None:
    server = SmallServer()
    recorder = made(server)
    for count in range(15):
        recorder.event(POD, "Warning", "Failed", f"try {count}")
    await recorder.close()
    messages = [event["message"] for event in server.objects.values()]
    assert len(messages) == 10
    assert messages[-1] == "(combined from similar events): try 14"


async def test_one_object_cannot_flood_the_server() -> None:
    server = SmallServer()
    recorder = made(server)
    for count in range(100):
        recorder.event(POD, "Normal", f"Reason{count}", "text")
    await recorder.close()
    assert len(server.objects) == SPAM_BURST


async def test_an_expired_event_is_written_anew() -> None:
    server = SmallServer()
    recorder = made(server)
    recorder.event(POD, "Normal", "Pulled", "image")
    await recorder.close()
    server.remove(next(iter(server.objects)))
    recorder.event(POD, "Normal", "Pulled", "image")
    await recorder.close()
    assert [event["count"] for event in server.objects.values()] == [1]
