"""A pod that comes back with other addresses: the old ones go."""

from __future__ import annotations

from orchestrator.api import schema
from orchestrator.api.patch import strategic
from orchestrator.api.resources import PODS
from orchestrator.kubelet.statuswriter import patch_of


def test_old_addresses_do_not_stay_beside_the_new() -> None:
    before = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    status = {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::1"}]}
    pod = {"metadata": {"name": "p", "uid": "u"}, "status": before}
    kind = schema.type_of(PODS)
    assert kind is not None
    merged = strategic.merge(pod, patch_of(pod, status, before), kind)
    assert merged["status"]["podIPs"] == status["podIPs"]
