"""Client certificates: the subject's CN is the user, each O is a group.

TLS has already verified the certificate; by which authority is looked at here, since TLS trusts that of front proxies,
too. The validity period is looked at again on each request, because a connection outlives a handshake. Parsing costs
50 µs, so identities are kept by the certificate's bytes.
Source: Kubernetes docs, Authenticating, "X.509 client certificates".
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.api.clock import Clock
from orchestrator.api.wire import Identity, Request

CACHE_SIZE = 1024
USER_ID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")  # Kubernetes' own attribute for UserInfo.uid
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


def authorities(pem: bytes) -> frozenset[bytes]:
    """The certificates of a bundle, DER."""
    return frozenset(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


class ClientCertificates:
    """Those that one of `anchors` signed (see `authorities`); None where TLS trusts nobody else."""

    def __init__(self, clock: Clock, anchors: frozenset[bytes] | None = None) -> None:
        self._clock = clock
        self._anchors = anchors
        self._known: OrderedDict[bytes, tuple[Identity | None, float]] = OrderedDict()

    def identity(self, request: Request) -> Identity | None:
        """The identity; None without a certificate, and for one that names no user, is another authority's or outside
        its validity."""
        der = request.peer_certificate
        if der is None or (self._anchors is not None and request.peer_anchor not in self._anchors):
            return None
        found = self._known.get(der)
        if found is None:
            found = self._known[der] = parse(der)
            if len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        identity, expires = found
        return identity if self._clock.now() < expires else None


def parse(der: bytes) -> tuple[Identity | None, float]:
    """(identity, end of validity in seconds since the epoch)."""
    certificate = x509.load_der_x509_certificate(der)
    subject = certificate.subject
    names = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    uids = [str(attribute.value) for attribute in subject.get_attributes_for_oid(USER_ID)]
    expires = certificate.not_valid_after_utc.timestamp()
    if not names or not names[0]:
        return None, expires
    fingerprint = f"X509SHA256={hashlib.sha256(der).hexdigest()}"
    return Identity(names[0], tuple(groups), "".join(uids[:1]), {CREDENTIAL_ID: (fingerprint,)}), expires
