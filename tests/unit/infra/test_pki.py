from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from infra import pki
from infra.topology import Topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    pki.ensure(tmp_path / "pki", Topology(), NOW)
    return tmp_path / "pki"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_making_it_again_changes_nothing(keys: Path) -> None:
    before = contents(keys)
    pki.ensure(keys, Topology(), NOW)
    assert contents(keys) == before


def test_a_new_node_leaves_the_others_certificates_alone(keys: Path) -> None:
    before = contents(keys)
    pki.ensure(keys, Topology(workers=3), NOW)
    after = contents(keys)
    assert after.items() >= before.items()
    assert "kubelet-worker-3.crt" in after


def test_another_address_renews_what_serves_it(keys: Path) -> None:
    before = contents(keys)
    pki.ensure(keys, Topology(index=1), NOW)
    changed = {name for name, content in contents(keys).items() if before[name] != content}
    assert changed == {
        f"{name}.{end}" for name in ("apiserver", "kubelet-control-plane-1", "kubelet-worker-1", "kubelet-worker-2")
        for end in ("crt", "key")
    }  # fmt: skip


def test_certificates_are_renewed_before_they_end(keys: Path) -> None:
    before = contents(keys)
    pki.ensure(keys, Topology(), NOW + timedelta(days=pki.VALID_DAYS - 1))
    assert contents(keys)["admin.crt"] != before["admin.crt"]


def test_a_key_without_its_certificate_is_made_anew(keys: Path) -> None:
    (keys / "admin.key").write_bytes((keys / "proxy.key").read_bytes())  # as where writing was stopped between the two
    pki.ensure(keys, Topology(), NOW)
    key = serialization.load_pem_private_key((keys / "admin.key").read_bytes(), None)
    assert certificate(keys, "admin").public_key() == key.public_key()


def test_keys_can_live_elsewhere_than_in_a_folder() -> None:
    made = pki.generate(Topology(), {}, NOW)
    assert pki.generate(Topology(), made, NOW) == made
    fewer = pki.generate(Topology(workers=0), made, NOW)
    assert fewer.items() <= made.items()
    assert "kubelet-worker-1.key" not in fewer
    assert "client-key-data" in pki.kubeconfig(made, "https://s:6443", "admin", cluster="c", user="u")


def test_identities_are_in_the_subject(keys: Path) -> None:
    assert certificate(keys, "kubelet-client-worker-1").subject.rfc4514_string() in (
        "CN=system:node:worker-1,O=system:nodes"
    )
    assert "system:masters" in certificate(keys, "admin").subject.rfc4514_string()


def test_the_authority_signed_them(keys: Path) -> None:
    authority = certificate(keys, "ca")
    for name in ("apiserver", "admin", "kubelet-worker-1"):
        certificate(keys, name).verify_directly_issued_by(authority)


def test_the_server_is_known_by_every_name(keys: Path) -> None:
    names = certificate(keys, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {"10.96.0.1", "fd00:10:96::1", "127.0.0.1", "172.29.0.10"} <= addresses


def test_private_keys_are_their_owners_alone(keys: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in keys.glob("*.key")} == {0o600}


def test_a_kubeconfig_is_complete(keys: Path) -> None:
    data = yaml.safe_load(pki.kubeconfig(keys, "https://s:6443", "admin", cluster="sampan-lab", user="admin"))
    assert data["current-context"] == "sampan-lab"
    assert data["clusters"][0]["cluster"]["server"] == "https://s:6443"
