"""CertificateSigningRequests: who may change which part of one."""

from __future__ import annotations

import base64
import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import call

URL = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
MERGE = "application/merge-patch+json"
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e")])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


REQUEST = encoded(
    x509.CertificateSigningRequestBuilder()
    .subject_name(NAME)
    .sign(KEY, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CERTIFICATE = encoded(
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(START)
    .not_valid_after(START + datetime.timedelta(days=1))
    .sign(KEY, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)


def signing_request(**spec: Any) -> dict[str, Any]:
    asked = {"request": REQUEST, "signerName": "example.com/e2e", "usages": ["signing"], **spec}
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"},
        "spec": asked,
    }


def condition(kind: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": "e2e", **more}


async def change(served: Served, part: str, **patch: Any) -> tuple[int, Any]:
    return await call(served, "PATCH", f"{URL}/r{part}", patch, content_type=MERGE)


async def test_an_approval_keeps_what_it_says_of_itself(served: Served) -> None:
    await call(served, "POST", URL, signing_request())
    annotations = {"patchedapproval": "true"}
    code, found = await change(
        served, "/approval", metadata={"annotations": annotations}, status={"conditions": [condition("Approved")]}
    )
    assert (code, found["metadata"]["annotations"]) == (200, annotations)
    (approved,) = found["status"]["conditions"]
    assert approved["lastUpdateTime"] and approved["lastTransitionTime"]
    code, found = await change(served, "/status", metadata={"annotations": {"by": "signer"}})
    assert found["metadata"]["annotations"] == {**annotations, "by": "signer"}


async def test_each_part_is_changed_by_its_own_requests_alone(served: Served) -> None:
    await call(served, "POST", URL, signing_request())
    both = {"conditions": [condition("Approved")], "certificate": CERTIFICATE}
    code, found = await change(served, "", spec={"signerName": "example.com/other"}, status=both)
    assert (code, found["spec"]["signerName"], found["status"]) == (200, "example.com/e2e", {})
    code, found = await change(served, "/approval", spec={"usages": ["any"]}, status=both)
    assert (code, found["spec"]["usages"], "certificate" in found["status"]) == (200, ["signing"], False)
    code, found = await change(served, "/status", status={"certificate": CERTIFICATE})
    assert (code, found["status"]["certificate"]) == (200, CERTIFICATE)


@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        pytest.param(
            "/approval",
            {"conditions": []},
            'status.conditions: Forbidden: updates may not remove a condition of type "Approved"',
            id="an-approval-stays",
        ),
        pytest.param(
            "/approval",
            {"conditions": [condition("Approved"), condition("Denied")]},
            'status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive',
            id="approved-and-denied",
        ),
        pytest.param(
            "/approval",
            {"conditions": [condition("Approved"), {"type": "Failed", "status": "False"}]},
            'status.conditions[1].status: Unsupported value: "False": supported values: "True"',
            id="a-failure-is-true",
        ),
        pytest.param(
            "/status",
            {"conditions": [condition("Approved"), condition("Approved")]},
            'status.conditions[1].type: Duplicate value: "Approved"',
            id="approved-twice",
        ),
        pytest.param(
            "/status",
            {"certificate": REQUEST},
            'status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, '
            'found "CERTIFICATE REQUEST"',
            id="no-certificate",
        ),
        pytest.param(
            "/status",
            {"certificate": encoded(b"text")},
            'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block',
            id="no-block",
        ),
    ],
)
async def test_what_is_refused(served: Served, part: str, status: dict[str, Any], message: str) -> None:
    await call(served, "POST", URL, signing_request())
    await change(served, "/approval", status={"conditions": [condition("Approved")]})
    code, found = await change(served, part, status=status)
    assert code == 422 and message in found["message"]


async def test_a_signer_cannot_approve(served: Served) -> None:
    await call(served, "POST", URL, signing_request())
    code, found = await change(served, "/status", status={"conditions": [condition("Approved")]})
    assert code == 422
    assert 'status.conditions: Forbidden: updates may not add a condition of type "Approved"' in found["message"]
    await change(served, "/approval", status={"conditions": [condition("Approved")]})
    changed = condition("Approved", message="by another")
    code, found = await change(served, "/status", status={"conditions": [changed, condition("Other")]})
    assert code == 200
    assert [one.get("message", "") for one in found["status"]["conditions"]] == ["", ""]


async def test_a_certificate_is_given_once(served: Served) -> None:
    await call(served, "POST", URL, signing_request())
    await change(served, "/status", status={"certificate": CERTIFICATE})
    code, found = await change(served, "/status", status={"certificate": None})
    assert code == 422
    assert "status.certificate: Forbidden: updates may not modify existing certificate content" in found["message"]


async def test_a_request_is_one_with_a_good_signature(served: Served) -> None:
    code, found = await call(served, "POST", URL, signing_request(request=CERTIFICATE))
    assert code == 422 and "PEM block type must be CERTIFICATE REQUEST" in found["message"]
    lines = base64.b64decode(REQUEST).decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{encoded(bytes(der))}\n-----END CERTIFICATE REQUEST-----\n"
    code, found = await call(served, "POST", URL, signing_request(request=encoded(pem.encode())))
    assert code == 422 and "spec.request" in found["message"]
