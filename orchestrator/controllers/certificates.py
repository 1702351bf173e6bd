"""Certificate signing requests: kubelets' are approved, approved ones signed, old ones removed.

Signers: kubernetes.io/kube-apiserver-client-kubelet (client certificates of nodes), kubernetes.io/kubelet-serving,
kubernetes.io/kube-apiserver-client, kubernetes.io/legacy-unknown. Only requests for a node's own client certificate
are approved here, if the requester may `create` the subresource `nodeclient` or `selfnodeclient`; any other waits for a
person. Requests that a signer may not sign get the condition Failed.
Source: Certificates and Certificate Signing Requests; API reference certificates/v1; kube-controller-manager
csrapproving, csrsigning, csrcleaner.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS, SUBJECTACCESSREVIEWS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.pods import created_at

KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
CLIENT = "kubernetes.io/kube-apiserver-client"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNED = (KUBELET_CLIENT, KUBELET_SERVING, CLIENT, LEGACY)
CLIENT_USAGES = {"key encipherment", "digital signature", "client auth"}
SERVING_USAGES = {"key encipherment", "digital signature", "server auth"}
KEEP_DECIDED_S, KEEP_DENIED_S, KEEP_PENDING_S = 3600.0, 3600.0, 24 * 3600.0
BACKDATE = timedelta(minutes=5)  # clocks differ


def request_of(csr: Object) -> x509.CertificateSigningRequest:
    """ValueError where it is none, or is not signed by its own key."""
    request = x509.load_pem_x509_csr(base64.b64decode(spec(csr)["request"]))
    if not request.is_signature_valid:
        raise ValueError("the request is not signed by its key")
    return request


def subject(request: x509.CertificateSigningRequest) -> tuple[str, list[str]]:
    """(common name, organizations)."""
    names = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return (names[0] if names else ""), [
        str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    ]


def alternative_names(request: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    try:
        return request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def fault(csr: Object, request: x509.CertificateSigningRequest) -> str:
    """Why the signer may not sign this, "" if it may."""
    usages = set(spec(csr).get("usages") or ())
    name, organizations = subject(request)
    names = alternative_names(request)
    signer = spec(csr)["signerName"]
    if signer in (KUBELET_CLIENT, KUBELET_SERVING):
        if organizations != ["system:nodes"]:
            return "organization is not system:nodes"
        if not name.startswith("system:node:"):
            return "common name does not begin with system:node:"
    if signer == KUBELET_CLIENT:
        if names is not None:
            return "DNS, IP, email and URI names are not allowed"
        if usages - CLIENT_USAGES or not {"digital signature", "client auth"} <= usages:
            return "usages did not match [client auth digital signature key encipherment]"
    if signer == KUBELET_SERVING:
        if spec(csr).get("username") != name:
            return "requested common name is not that of the requester"
        if names is None or any(not isinstance(each, (x509.DNSName, x509.IPAddress)) for each in names):
            return "DNS or IP names are required, and no others"
        if usages - SERVING_USAGES or not {"digital signature", "server auth"} <= usages:
            return "usages did not match [server auth digital signature key encipherment]"
    if signer == CLIENT and usages - CLIENT_USAGES:
        return "usages did not match [client auth digital signature key encipherment]"
    return ""


_EXTENDED = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
}


class Signer:
    """The cluster's CA."""

    def __init__(self, certificate: bytes, key: bytes, duration_s: int) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key: Any = serialization.load_pem_private_key(key, None)
        self._duration_s = duration_s

    def sign(self, csr: Object, request: x509.CertificateSigningRequest, now: float, serial: int) -> bytes:
        wanted_s = spec(csr).get("expirationSeconds")
        duration_s = min(self._duration_s, max(600, int(wanted_s))) if wanted_s else self._duration_s
        moment = datetime.fromtimestamp(now, UTC)
        end = min(moment + timedelta(seconds=duration_s), self._certificate.not_valid_after_utc)
        usages = set(spec(csr).get("usages") or ())
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(serial)
            .not_valid_before(moment - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(usages), critical=True)
        )
        if extended := [_EXTENDED[usage] for usage in sorted(usages) if usage in _EXTENDED]:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        if (names := alternative_names(request)) is not None:
            builder = builder.add_extension(names, critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: set[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "signing" in usages,
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement="key agreement" in usages,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def expires_at(csr: Object) -> float:
    """When a request has been kept long enough."""
    found = status_of(csr).get("conditions") or []
    kinds = {condition["type"] for condition in found}
    if "Denied" in kinds or "Failed" in kinds:
        return created_at(csr) + KEEP_DENIED_S
    if "Approved" in kinds and status_of(csr).get("certificate"):
        return created_at(csr) + KEEP_DECIDED_S
    return created_at(csr) + KEEP_PENDING_S


class CertificateController:
    """Approves, signs and removes requests."""

    def __init__(self, context: Context, signer: Signer) -> None:
        self._client = context.client
        self._clock = context.clock
        self._random = context.random
        self._signer = signer
        self.loop = Loop("certificatesigningrequest", self.reconcile)
        self._requests = context.informers.informer(CERTIFICATESIGNINGREQUESTS)
        self._requests.add_handler(lambda old, new: self.loop.queue.add(meta.name(new)) if new else None)

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: str) -> None:
        csr = self._requests.cache.get(key)
        if csr is None or meta.is_deleting(csr):
            return
        now = self._clock.now()
        if now >= expires_at(csr):
            try:
                await self._client.delete(CERTIFICATESIGNINGREQUESTS, key, uid=meta.uid(csr))
            except status.NotFound:
                return
            return
        self.loop.queue.add_after(key, expires_at(csr) - now)
        kinds = {condition["type"] for condition in status_of(csr).get("conditions") or ()}
        if kinds & {"Denied", "Failed"} or status_of(csr).get("certificate") or spec(csr)["signerName"] not in SIGNED:
            return
        try:
            request = request_of(csr)
        except ValueError as error:
            await self._fail(csr, "SignerValidationFailure", f"unable to parse csr: {error}", now)
            return
        if "Approved" in kinds:
            await self._sign(csr, request, now)
        elif spec(csr)["signerName"] == KUBELET_CLIENT and not fault(csr, request):
            await self._approve(csr, request, now)

    async def _approve(self, csr: Object, request: x509.CertificateSigningRequest, now: float) -> None:
        """A node may renew its own certificate (selfnodeclient); a bootstrap token may ask for any (nodeclient)."""
        name, _ = subject(request)
        is_own = spec(csr).get("username") == name
        for subresource, why in (("selfnodeclient", "self kubelet client"), ("nodeclient", "kubelet client")):
            if subresource == "selfnodeclient" and not is_own:
                continue
            if await self._may(csr, subresource):
                message = f"Auto approving {why} certificate after SubjectAccessReview."
                condition = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
                found = conditions.updated(status_of(csr).get("conditions"), condition, meta.format_time(now))
                approved = with_status(csr, {**status_of(csr), "conditions": found})
                await self._client.update(CERTIFICATESIGNINGREQUESTS, approved, subresource="approval")
                return

    async def _may(self, csr: Object, subresource: str) -> bool:
        review = {
            "spec": {
                "user": spec(csr).get("username"),
                "uid": spec(csr).get("uid"),
                "groups": spec(csr).get("groups"),
                "extra": spec(csr).get("extra"),
                "resourceAttributes": {
                    "group": "certificates.k8s.io",
                    "resource": "certificatesigningrequests",
                    "subresource": subresource,
                    "verb": "create",
                    "version": "*",
                },
            }
        }
        review["spec"] = {field: value for field, value in review["spec"].items() if value}
        answer = await self._client.create(SUBJECTACCESSREVIEWS, review)
        return bool(status_of(answer).get("allowed"))

    async def _sign(self, csr: Object, request: x509.CertificateSigningRequest, now: float) -> None:
        if why := fault(csr, request):
            await self._fail(csr, "SignerValidationFailure", why, now)
            return
        certificate = self._signer.sign(csr, request, now, self._random.getrandbits(159) | 1)
        signed = {**status_of(csr), "certificate": base64.b64encode(certificate).decode()}
        await self._client.update(CERTIFICATESIGNINGREQUESTS, with_status(csr, signed), subresource="status")

    async def _fail(self, csr: Object, reason: str, message: str, now: float) -> None:
        condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
        found = conditions.updated(status_of(csr).get("conditions"), condition, meta.format_time(now))
        failed = with_status(csr, {**status_of(csr), "conditions": found})
        await self._client.update(CERTIFICATESIGNINGREQUESTS, failed, subresource="status")
