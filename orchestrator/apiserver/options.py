"""The query options of requests: ListOptions, WriteOptions (create, update, patch) and DeleteOptions.

Each is parsed once into a record. Errors are Invalid, named after the options' kind, as kube-apiserver has them:
`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: …`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import decoding, schema
from orchestrator.api.kinds import faults
from orchestrator.api.status import ApiError, BadRequest, Cause, invalid
from orchestrator.api.wire import Request
from orchestrator.apiserver import body

NOT_OLDER_THAN, EXACT = "NotOlderThan", "Exact"
FIELD_VALIDATIONS = ("Ignore", "Strict", "Warn")
PROPAGATIONS = ("Foreground", "Background", "Orphan")
MANAGER_LENGTH_MAX = 128
META = "meta.k8s.io"
_DIGITS_MAX = 20  # of a number of 64 bits, with its sign


def is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "t")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    return integer(text) if text else 0


def integer(text: str) -> int:
    """A number of 64 bits as Go reads it: ASCII digits, with or without a sign. Errors: BadRequest."""
    if not re.fullmatch("[-+]?[0-9]+", text):
        raise BadRequest(f"strconv.ParseInt: parsing {faults.shown(text)}: invalid syntax")
    if len(text) > _DIGITS_MAX or not -(2**63) <= int(text) < 2**63:
        raise BadRequest(f"strconv.ParseInt: parsing {faults.shown(text)}: value out of range")
    return int(text)


def parse_revision(text: str) -> int:
    """A resourceVersion; a ValueError in Go's words where it is none."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"strconv.ParseUint: parsing {faults.shown(text)}: invalid syntax")
    if len(text) > _DIGITS_MAX or int(text) >= 2**64:
        raise ValueError(f"strconv.ParseUint: parsing {faults.shown(text)}: value out of range")
    return int(text)


def _invalid(kind: str, *causes: Cause) -> ApiError:
    return invalid(META, kind, "", causes)


class ListOptions(Struct, frozen=True):
    """`send_initial_events` is None where it was not said, `revision` where no resourceVersion was."""

    label_selector: str = ""
    field_selector: str = ""
    revision: int | None = None
    match: str = ""
    limit: int = 0
    continue_token: str = ""
    timeout_s: float = 0
    bookmarks: bool = False
    send_initial_events: bool | None = None


def list_options(request: Request, *, watch: bool) -> ListOptions:
    if not request.query:
        return _NO_LIST_OPTIONS
    query = dict(reversed(request.query))  # the first of several values counts
    version = query.get("resourceVersion", "")
    try:
        revision = parse_revision(version) if version else None
    except ValueError as error:
        fault = f'Invalid value: "{version}": {error}'
        raise BadRequest(f"invalid resource version: resourceVersion: {fault}") from error
    initial = query.get("sendInitialEvents", "")
    found = ListOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        revision=revision,
        match=query.get("resourceVersionMatch", ""),
        limit=max(0, _number(query, "limit")),
        continue_token=query.get("continue", ""),
        timeout_s=max(_number(query, "timeoutSeconds"), 0),
        bookmarks=is_true(query.get("allowWatchBookmarks", "")),
        send_initial_events=is_true(initial) if initial else None,
    )
    if causes := _watch_faults(found) if watch else _list_faults(found):
        raise _invalid("ListOptions", *causes)
    return found


_NO_LIST_OPTIONS = ListOptions()


def _list_faults(options: ListOptions) -> list[Cause]:
    path = "resourceVersionMatch"
    if options.send_initial_events is not None:
        return [faults.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")]
    if not options.match:
        return []
    if options.revision is None:
        return [faults.forbidden(path, f"{path} is forbidden unless resourceVersion is provided")]
    if options.continue_token:
        return [faults.forbidden(path, f"{path} is forbidden when continue is provided")]
    if options.match not in (EXACT, NOT_OLDER_THAN):
        return [faults.not_supported(path, options.match, (EXACT, NOT_OLDER_THAN, ""))]
    if options.match == EXACT and options.revision == 0:
        return [faults.forbidden(path, f'{path} "exact" is forbidden for resourceVersion "0"')]
    return []


def _watch_faults(options: ListOptions) -> list[Cause]:
    path = "resourceVersionMatch"
    if options.send_initial_events is None:
        if options.match:
            return [faults.forbidden(path, f"{path} is forbidden for watch unless sendInitialEvents is provided")]
        return []
    if not options.match:
        return [faults.forbidden(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")]
    if options.match != NOT_OLDER_THAN:
        return [faults.not_supported(path, options.match, (NOT_OLDER_THAN,))]
    return []


class WriteOptions(Struct, frozen=True):
    dry_run: bool
    field_manager: str
    field_validation: str
    force: bool
    said: tuple[tuple[str, Any], ...] = ()  # what the request named, for admission

    def to_json(self, kind: str) -> dict[str, Any]:
        """What admission sees as options."""
        found: dict[str, Any] = {"kind": kind, "apiVersion": f"{META}/v1", **dict(self.said)}
        return found | ({"dryRun": ["All"]} if self.dry_run else {})


def write_options(request: Request, kind: str) -> WriteOptions:
    query = dict(reversed(request.query))
    causes = _dry_run_faults([value for key, value in request.query if key == "dryRun"])
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in FIELD_VALIDATIONS:
        causes.append(faults.not_supported("fieldValidation", validation, ("", *FIELD_VALIDATIONS)))
    manager = query.get("fieldManager", "")
    if len(manager) > MANAGER_LENGTH_MAX:
        causes.append(faults.too_long("fieldManager", MANAGER_LENGTH_MAX))
    if causes:
        raise _invalid(kind, *causes)
    agent = request.headers.get("user-agent", "").partition("/")[0][:MANAGER_LENGTH_MAX]
    return WriteOptions(
        dry_run="dryRun" in query,
        field_manager=manager or agent or "unknown",
        field_validation=validation,
        force=is_true(query.get("force", "")),
        said=tuple(
            (name, is_true(query[name]) if name == "force" else query[name])
            for name in ("fieldManager", "fieldValidation", "force")
            if query.get(name)
        ),
    )


def _dry_run_faults(values: list[str]) -> list[Cause]:
    if all(value == "All" for value in values):
        return []
    return [faults.not_supported("dryRun", values, ("All",))]


class DeleteOptions(Struct, frozen=True):
    """`grace_period_s` and `propagation` are None where the client left them to the kind."""

    grace_period_s: int | None = None
    propagation: str | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"apiVersion": f"{META}/v1", "kind": "DeleteOptions"}
        if self.grace_period_s is not None:
            found["gracePeriodSeconds"] = self.grace_period_s
        if self.propagation is not None:
            found["propagationPolicy"] = self.propagation
        return found | ({"dryRun": ["All"]} if self.dry_run else {})


def delete_options(request: Request) -> DeleteOptions:
    """From the body where there is one, else from the query."""
    found: dict[str, Any] = {}
    if request.body:
        found, _ = body.read(request, "DeleteOptions")
        kind = found.get("kind") or "DeleteOptions"
        if kind != "DeleteOptions":
            raise BadRequest(decoding.unregistered(found.get("apiVersion") or "", kind))
        try:
            decoding.decode(found, schema.named_type("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"))
        except decoding.DecodeError as error:
            raise BadRequest(str(error)) from error
    query = dict(reversed(request.query))
    for name in ("gracePeriodSeconds", "propagationPolicy", "orphanDependents"):
        if name in query and name not in found:
            found[name] = _number(query, name) if name == "gracePeriodSeconds" else query[name]
    dry_run = found.get("dryRun") or [value for key, value in request.query if key == "dryRun"]
    return parse_delete_options({**found, "dryRun": dry_run})


def parse_delete_options(found: Mapping[str, Any]) -> DeleteOptions:
    preconditions = found.get("preconditions") or {}
    propagation = found.get("propagationPolicy")
    orphan = found.get("orphanDependents")
    grace = found.get("gracePeriodSeconds")
    causes = _dry_run_faults(list(found.get("dryRun") or ()))
    if propagation is not None and propagation not in PROPAGATIONS:
        causes.append(faults.not_supported("propagationPolicy", propagation, (*PROPAGATIONS, "nil")))
    if propagation is not None and orphan is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(faults.invalid("propagationPolicy", propagation, detail))
    if causes:
        raise _invalid("DeleteOptions", *causes)
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan is True or is_true(str(orphan)) else "Background"
    return DeleteOptions(
        grace_period_s=None if grace is None else max(grace, 0) if grace != -1 else 1,
        propagation=propagation,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=bool(found.get("dryRun")),
    )
