"""The lab's certificate authority, and what it signs: serving and client certificates, the token key, kubeconfigs.

Files of a folder, names as kubeadm's: ca.crt/.key sign everything but front-proxy-client, apiserver.crt/.key serve,
apiserver-kubelet-client for the API server's calls to kubelets, front-proxy-client for those to aggregated servers,
which believe what it says of who asks (so it has a CA of its own), sa.key/.pub sign and check service-account tokens.
A client's identity is its certificate's CN (user) and O (groups). Existing files are kept as they are, unless a
certificate no longer covers what it must (another name or address) or ends soon. Keys are P-256: ten of them and their
certificates take about 10 ms.
Sources: kubernetes.io, PKI certificates and requirements; Authenticating (X509 client certificates).
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.topology import CONTROL_PLANE, Node, Topology

VALID_DAYS = 3650
RENEW_DAYS = 30
CLOCK_SKEW = timedelta(hours=1)

CA, FRONT_PROXY_CA = "ca", "front-proxy-ca"
ADMIN_GROUP = "kubeadm:cluster-admins"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a certificate says: who, in which groups, and, if it serves, under which names and addresses."""

    file: str
    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    authority: str = CA

    @property
    def is_serving(self) -> bool:
        return bool(self.names or self.addresses)


def subjects(topology: Topology) -> list[Subject]:
    """Every certificate of a lab. Pure."""
    return [*lab_subjects(topology), *(one for node in topology.nodes for one in node_subjects(topology, node))]


def lab_subjects(topology: Topology) -> list[Subject]:
    """Those that belong to no node: they stay when nodes come and go."""
    return [
        Subject(
            file="apiserver-kubelet-client",
            common_name="kube-apiserver-kubelet-client",
            organizations=("system:masters",),
        ),
        Subject(file="front-proxy-client", common_name="front-proxy-client", authority=FRONT_PROXY_CA),
        Subject(file="admin", common_name="kubernetes-admin", organizations=("system:masters", ADMIN_GROUP)),
        Subject(file="scheduler", common_name="system:kube-scheduler"),
        Subject(file="controller-manager", common_name="system:kube-controller-manager"),
        Subject(file="cloud-controller-manager", common_name="system:cloud-controller-manager"),
        Subject(file="proxy", common_name="system:kube-proxy"),
    ]


def node_subjects(topology: Topology, node: Node) -> list[Subject]:
    user = f"system:node:{node.name}"
    addresses = (node.address_v4, node.address_v6)
    wanted = [
        Subject(file=f"kubelet-client-{node.name}", common_name=user, organizations=("system:nodes",)),
        Subject(
            file=f"kubelet-{node.name}",
            common_name=user,
            organizations=("system:nodes",),
            names=(node.name,),
            addresses=addresses,
        ),
    ]
    if node.role == CONTROL_PLANE:
        controls = [one for one in topology.nodes if one.role == CONTROL_PLANE]  # any of them may be asked
        places = [address for one in controls for address in (one.address_v4, one.address_v6)]
        domain = topology.networks.cluster_domain
        service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain}")
        wanted.append(
            Subject(
                file="apiserver",
                common_name="kube-apiserver",
                names=("localhost", *(one.name for one in controls), *service),
                addresses=("127.0.0.1", "::1", *places, *topology.networks.kubernetes_service),
            )
        )
    return wanted


def ensure(folder: Path, topology: Topology, now: datetime | None = None) -> None:
    """Make what is missing in `folder`; private keys are readable by their owner alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    existing = load(folder)
    for name, content in generate(topology, existing, now or datetime.now(UTC)).items():
        if existing.get(name) != content:
            _write(folder / name, content, 0o600 if name.endswith(".key") else 0o644)


def load(folder: Path) -> dict[str, bytes]:
    """What `ensure` has made, by file name."""
    return {file.name: file.read_bytes() for pattern in ("*.crt", "*.key", "*.pub") for file in folder.glob(pattern)}


def generate(topology: Topology, existing: Mapping[str, bytes], now: datetime) -> dict[str, bytes]:
    """Every file of the lab by name, those of `existing` that are still good unchanged. What no node has any more is
    left out, the authority never: what it has signed stays valid."""
    own = authority(existing, now)
    return own | issue(subjects(topology), own, existing, now)


def authority(existing: Mapping[str, bytes], now: datetime) -> dict[str, bytes]:
    """What a lab has but once and never changes: both authorities, sa.key and sa.pub."""
    found: dict[str, bytes] = {}
    new: dict[tuple[str, str], Callable[[], dict[str, bytes]]] = {
        ("ca.crt", "ca.key"): lambda: _new_ca(CA, "kubernetes", now),
        ("front-proxy-ca.crt", "front-proxy-ca.key"): lambda: _new_ca(FRONT_PROXY_CA, "front-proxy-ca", now),
        ("sa.key", "sa.pub"): _new_token_key,
    }
    for names, make in new.items():
        found |= {name: existing[name] for name in names} if set(names) <= existing.keys() else make()
    return found


def issue(
    wanted: Sequence[Subject], ca_files: Mapping[str, bytes], existing: Mapping[str, bytes], now: datetime
) -> dict[str, bytes]:
    """NAME.crt and NAME.key of each subject, those of `existing` where they are still good."""
    authorities = {name: _loaded_ca(ca_files, name) for name in {subject.authority for subject in wanted}}
    found: dict[str, bytes] = {}
    for subject in wanted:
        ca, ca_key = authorities[subject.authority]
        certificate, key_file = f"{subject.file}.crt", f"{subject.file}.key"
        pair = {name: existing[name] for name in (certificate, key_file) if name in existing}
        if len(pair) == 2 and _is_good(pair[certificate], pair[key_file], subject, ca, now):
            found |= pair
            continue
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _sign(subject, key.public_key(), ca_key, ca, now)
        found[key_file], found[certificate] = _private(key), signed.public_bytes(serialization.Encoding.PEM)
    return found


def _loaded_ca(files: Mapping[str, bytes], name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(files[f"{name}.key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(files[f"{name}.crt"]), key


def _new_token_key() -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"sa.key": _private(key), "sa.pub": public}


def _new_ca(file: str, common_name: str, now: datetime) -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {f"{file}.key": _private(key), f"{file}.crt": certificate.public_bytes(serialization.Encoding.PEM)}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )


def _sign(
    subject: Subject, key: ec.EllipticCurvePublicKey, ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate,
    now: datetime,
) -> x509.Certificate:  # fmt: skip
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.organizations]
    name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])
    usage = ExtendedKeyUsageOID.SERVER_AUTH if subject.is_serving else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(name, ca.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if subject.is_serving:
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(subject)), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _alternatives(subject: Subject) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.names]
    return names + [x509.IPAddress(ipaddress.ip_address(address)) for address in subject.addresses]


def _is_good(pem: bytes, key: bytes, subject: Subject, ca: x509.Certificate, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(pem)
    if certificate.public_key() != serialization.load_pem_private_key(key, None).public_key():
        return False  # whoever wrote them was stopped between the two
    if certificate.issuer != ca.subject or certificate.not_valid_after_utc < now + timedelta(days=RENEW_DAYS):
        return False
    if not subject.is_serving:
        return True
    present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(_alternatives(subject)) <= set(present)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others on the way."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.rename(path)


def kubeconfig(
    keys: Path | Mapping[str, bytes], server: str, subject_file: str, *, cluster: str, user: str
) -> str:  # fmt: skip
    """A kubeconfig with everything inside it, current context set. `keys`: the folder, or its files by name."""
    names = ("ca.crt", f"{subject_file}.crt", f"{subject_file}.key")
    parts = {name: (keys / name).read_bytes() if isinstance(keys, Path) else keys[name] for name in names}
    ca, certificate, key = (base64.b64encode(part).decode() for part in parts.values())
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
        "preferences": {},
    }
    return yaml.safe_dump(data, sort_keys=False)
