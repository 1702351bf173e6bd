from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import status
from orchestrator.client.watch import FrameDecoder, WatchEvent, ends_initial_events


@given(names=st.lists(st.text(max_size=20), max_size=10), cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_are_cut(names: list[str], cuts: list[int]) -> None:
    events = [WatchEvent("ADDED", {"metadata": {"name": name}}) for name in names]
    wire = b"".join(json.dumps({"type": kind, "object": obj}).encode() + b"\n" for kind, obj in events)
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    decoder = FrameDecoder()
    chunks = [wire[start:end] for start, end in itertools.pairwise(edges)]
    assert [event for chunk in chunks for event in decoder.feed(chunk)] == events


def test_an_error_frame_is_raised_as_its_error() -> None:
    body = status.Expired("too old resource version: 1 (2)").to_status()
    with pytest.raises(status.Expired, match="too old"):
        FrameDecoder().feed(json.dumps({"type": "ERROR", "object": body}).encode() + b"\n")


def test_the_end_of_the_initial_events_is_an_annotated_bookmark() -> None:
    annotated = {"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}
    assert ends_initial_events(WatchEvent("BOOKMARK", annotated))
    assert not ends_initial_events(WatchEvent("BOOKMARK", {"metadata": {}}))
    assert not ends_initial_events(WatchEvent("ADDED", annotated))
