"""A CertificateSigningRequest records who asked: the signer decides by that, so the client cannot say it itself.

Source: certificates.k8s.io/v1 API reference, CertificateSigningRequestSpec.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.request import Attributes


class RequesterRecord:
    def strategies(self) -> Mapping[str, Strategy]:
        return {"certificatesigningrequests.certificates.k8s.io": self}

    async def before_write(self, attributes: Attributes) -> None:
        obj, user = attributes.object, attributes.user
        if obj is None or attributes.operation != "CREATE":
            return
        spec = obj.setdefault("spec", {})
        recorded = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        obj["status"] = {}
        for field, value in recorded.items():
            if value:
                spec[field] = value
            else:
                spec.pop(field, None)

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        """Nothing was taken, so there is nothing to give back."""
