from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.local.lab import of_cache


@pytest.mark.parametrize(
    ("lab", "used"),
    [
        pytest.param({"tree": "/c/node-1/tree", "code": "/c/code-1"}, {"/c/node-1/tree", "/c/code-1"}, id="namespaces"),
        pytest.param({"backend": "libvirt", "image": {"disk": "/c/vm-1/disk.qcow2"}}, {"/c/vm-1/disk.qcow2"}, id="vms"),
        pytest.param({"backend": "libvirt", "image": {}}, set(), id="vms-that-have-not-got-an-image-yet"),
        pytest.param({"backend": "machines"}, set(), id="machines-that-a-user-has"),
    ],
)
def test_a_lab_of_any_backend_keeps_its_part_of_the_cache(lab: dict[str, Any], used: set[str]) -> None:
    assert of_cache(lab) == {Path(path) for path in used}
