"""CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve and sign for which signer.

`approve` and `sign` are verbs on the virtual resource `signers`, named by the signer (`example.com/web`) or its whole
domain (`example.com/*`). Nobody gets a certificate of system:masters from the general client signer.
Source: Kubernetes docs, "Certificate Signing Requests"; messages of kube-apiserver.
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from orchestrator.api.meta import Object
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.request import Attributes, Authorizer

GROUP = "certificates.k8s.io"
PLURAL = f"certificatesigningrequests.{GROUP}"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
MASTERS = "system:masters"


class CertificateApproval:
    operations = ("UPDATE",)
    resources = (f"{PLURAL}/approval", f"{PLURAL}/status")

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.object or {}, attributes.old_object or {}
        signer = (old.get("spec") or {}).get("signerName", "")
        if attributes.subresource == "approval":
            self._require(attributes, "approve", signer)
        elif is_signed_differently(new, old):
            self._require(attributes, "sign", signer)

    def _require(self, attributes: Attributes, verb: str, signer: str) -> None:
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            asked = Attributes(user=attributes.user, verb=verb, group=GROUP, version="*", resource="signers", name=name)
            if self._authorizer.authorize(asked).allowed:
                return
        raise refuse(attributes, f'user not permitted to {verb} requests with signerName "{signer}"')


def is_signed_differently(new: Object, old: Object) -> bool:
    before, after = old.get("status") or {}, new.get("status") or {}
    return before.get("certificate") != after.get("certificate") or failures(before) != failures(after)


def failures(status: Object) -> list[Object]:
    return [one for one in status.get("conditions") or () if one.get("type") == "Failed"]


class CertificateSubjectRestriction:
    operations = ("CREATE",)
    resources = (PLURAL,)

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        if spec.get("signerName") == CLIENT_SIGNER and MASTERS in organizations(spec.get("request", "")):
            why = f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
            raise refuse(attributes, why)


def organizations(request: str) -> list[str]:
    """The groups that a base64 PEM request asks for; none where it cannot be read, which validation says."""
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(request))
    except (ValueError, binascii.Error):
        return []
    return [str(one.value) for one in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
