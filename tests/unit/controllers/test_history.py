"""ControllerRevisions: what a revision of a template is written as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.controllers import history


def owner(**template: Any) -> Object:
    described = {"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": "Always", "containers": []}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "a", "namespace": "default", "uid": "1"},
        "spec": {"template": {**described, **template}},
    }


@pytest.mark.parametrize("label", [history.HASH_LABEL, history.REVISION_LABEL])
def test_a_revision_is_labelled_as_its_kind_does(label: str) -> None:
    found = history.find(owner(), [], label)
    assert isinstance(found, history.Missing)
    labels = found.revision["metadata"]["labels"]
    hashed = found.revision["metadata"]["name"].removeprefix("a-")
    assert labels == {"app": "a", label: hashed}
    assert history.hash_of(found.revision, label) == hashed


def test_the_data_is_written_in_the_order_that_others_write_it_in() -> None:
    """kubectl and upstream's controllers compare its text with their own."""
    found = history.find(owner(), [])
    assert isinstance(found, history.Missing)
    data = found.revision["data"]
    assert json.dumps(data) == json.dumps(data, sort_keys=True)
    assert data["spec"]["template"]["$patch"] == "replace"
    assert history.find(owner(), [found.revision]) is found.revision


def test_a_revision_with_the_older_label_keeps_its_hash() -> None:
    revision: Object = {"metadata": {"name": "a-1", "labels": {history.HASH_LABEL: "1"}}}
    assert history.hash_of(revision, history.REVISION_LABEL) == "1"
