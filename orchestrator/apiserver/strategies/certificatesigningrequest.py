"""A CertificateSigningRequest records who asked: the signer decides by that, so the client cannot say it itself.

Source: certificates.k8s.io/v1 API reference, CertificateSigningRequestSpec.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.request import Attributes

RECORDED = ("username", "uid", "groups", "extra")


class RequesterRecord:
    def strategies(self) -> Mapping[str, Strategy]:
        return {"certificatesigningrequests.certificates.k8s.io": self}

    async def before_write(self, attributes: Attributes) -> None:
        obj, user = attributes.object, attributes.user
        if obj is None or attributes.subresource:
            return
        spec = obj.setdefault("spec", {})
        if attributes.operation == "CREATE":
            recorded = {
                "username": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra.items()},
            }
            obj.pop("status", None)
        else:
            recorded = {field: (attributes.old_object or {}).get("spec", {}).get(field) for field in RECORDED}
        for field, value in recorded.items():
            if value:
                spec[field] = value
            else:
                spec.pop(field, None)

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        """Nothing was taken, so there is nothing to give back."""
