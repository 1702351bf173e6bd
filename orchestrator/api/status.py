"""API errors: every failure is a Kubernetes Status, and the class of an error is its reason.

    ApiError                      code  reason
      BadRequest                  400   BadRequest
      Unauthorized                401   Unauthorized
      Forbidden                   403   Forbidden
      NotFound                    404   NotFound
      MethodNotAllowed            405   MethodNotAllowed
      NotAcceptable               406   NotAcceptable
      AlreadyExists               409   AlreadyExists
      Conflict                    409   Conflict
      Gone                        410   Gone
      Expired                     410   Expired          the revision asked for is compacted away
      RequestEntityTooLarge       413   RequestEntityTooLarge
      UnsupportedMediaType        415   UnsupportedMediaType
      Invalid                     422   Invalid          with one cause for each field
      TooManyRequests             429   TooManyRequests  with retryAfterSeconds
      InternalError               500   InternalError
      ServiceUnavailable          503   ServiceUnavailable
      ServerTimeout, Timeout      504   ServerTimeout (500 upstream), Timeout

The server renders them (`to_status`), the client parses them back (`from_status`), so `except Conflict` means the same
on both sides: read the object again and decide again. Source: API conventions, "Response Status Kind"; meta/v1 Status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct


class Cause(Struct, frozen=True):
    """One fault of one field. `reason` is a CauseType: FieldValueRequired, FieldValueInvalid, FieldValueDuplicate,
    FieldValueNotSupported, FieldValueForbidden, FieldValueTooLong, FieldValueTooMany, FieldValueNotFound,
    FieldValueTypeInvalid, FieldManagerConflict, UnexpectedServerResponse."""

    field: str
    reason: str
    message: str


class ApiError(Exception):
    """A failed request. `details` is the Status' details without causes: name, group, kind, uid, retryAfterSeconds."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = ""
    has_details: ClassVar[bool] = False  # be they empty

    def __init__(
        self, message: str, *, details: Mapping[str, Any] | None = None, causes: Sequence[Cause] = (), code: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.causes = tuple(causes)
        self.status_code = code or self.code

    def to_status(self) -> dict[str, Any]:
        """The Status object for the wire."""
        details: dict[str, Any] = {key: value for key, value in self.details.items() if value not in ("", None)}
        if self.causes:
            details["causes"] = [
                {"reason": cause.reason, "message": cause.message} | ({"field": cause.field} if cause.field else {})
                for cause in self.causes
            ]
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if details or self.has_details:
            status["details"] = details
        return status | {"code": self.status_code}

    @property
    def retry_after_s(self) -> int | None:
        return self.details.get("retryAfterSeconds")


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"

    def __init__(self, message: str = "Unauthorized", **more: Any) -> None:
        super().__init__(message, **more)


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"
    has_details = True


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"
    has_details = True


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Gone(ApiError):
    code, reason = 410, "Gone"


class Expired(ApiError):
    code, reason = 410, "Expired"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServerTimeout(ApiError):
    code, reason = 500, "ServerTimeout"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"


CLASSES: tuple[type[ApiError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServerTimeout,
    ServiceUnavailable,
    Timeout,
)
BY_REASON = {kind.reason: kind for kind in CLASSES}
BY_CODE = {kind.code: kind for kind in reversed(CLASSES)}


def from_status(status: Mapping[str, Any], code: int = 0) -> ApiError:
    """The error that a Status body stands for; `code` is the HTTP status where the body names none."""
    code = int(status.get("code") or code or 500)
    kind = BY_REASON.get(status.get("reason") or "") or BY_CODE.get(code) or ApiError
    details = dict(status.get("details") or {})
    causes = [
        Cause(cause.get("field", ""), cause.get("reason", ""), cause.get("message", ""))
        for cause in details.pop("causes", None) or ()
    ]
    return kind(status.get("message") or "", details=details, causes=causes, code=code)


def qualified(group: str, plural: str) -> str:
    """`deployments.apps`, `pods`: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> NotFound:
    return NotFound(f'{qualified(group, plural)} "{name}" not found', details=_details(group, plural, name))


def already_exists(group: str, plural: str, name: str) -> AlreadyExists:
    return AlreadyExists(f'{qualified(group, plural)} "{name}" already exists', details=_details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> Conflict:
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return Conflict(message, details=_details(group, plural, name))


def forbidden(group: str, plural: str, name: str, why: str) -> Forbidden:
    shown = f'{qualified(group, plural)} "{name}"' if name else qualified(group, plural)
    return Forbidden(f"{shown} is forbidden: {why}", details=_details(group, plural, name))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Invalid:
    """422 for one or more fields. Each cause's message is without its field path; one fault is shown bare, several
    in brackets."""
    faults = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    shown = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
    message = f'{qualified(group, kind)} "{name}" is invalid' + (f": {shown}" if faults else "")
    return Invalid(message, details=_details(group, kind, name), causes=causes)


def _details(group: str, kind: str, name: str) -> dict[str, Any]:
    return {"name": name, "group": group, "kind": kind}
