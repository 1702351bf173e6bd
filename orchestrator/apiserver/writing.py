"""Create, update and patch: one path for every kind, from a decoded object to an acknowledged revision.

    create   default → prepare → mutating admission → strategy → managed fields → validate → validating admission
    update   the same from the stored object and the new one; then compare: a write that changes nothing moves nothing

An update is a loop around a compare-and-swap. Where the client named a resourceVersion, a lost race is its Conflict;
where it did not, the change is made again on the newer object. A patch is an update whose new object is computed from
the stored one each time; server-side apply is a patch that may also create.
An update that leaves an object deleting, with no finalizer and no grace left, removes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from orchestrator.api import decoding, meta, schema, status
from orchestrator.api.kinds import faults
from orchestrator.api.kinds import metadata as metadata_rules
from orchestrator.api.meta import Object
from orchestrator.api.patch import managed_fields, nulls
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.resources import OWN_STORES, Resource
from orchestrator.api.status import ApiError, BadRequest, Conflict, ServiceUnavailable
from orchestrator.apiserver import encoding
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.options import WriteOptions, parse_revision
from orchestrator.apiserver.reading import find
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.resourcecache import Entry
from orchestrator.apiserver.subresources import NARROW
from orchestrator.store.interface import KeyExists, RevisionMismatch, StoreFailed

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels and nothing that looks like another
NAME_RANDOM_LENGTH = 5
NAME_LENGTH_MAX = 63
NAME_TRIES = 8
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
BEGIN_MAX = 30  # characters of a body that are told again
_RETRIES_MAX = 100  # lost races of one request: with this many someone is writing in a loop
# Kinds whose updates must say what they were based on.
NEEDS_REVISION = frozenset(
    {
        "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io",
        "volumeattachments.storage.k8s.io", "leases.coordination.k8s.io", "poddisruptionbudgets.policy",
        "runtimeclasses.node.k8s.io", "apiservices.apiregistration.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    }
)  # fmt: skip

Change = Callable[[Object], Awaitable[Object]]  # the stored object (not to be changed) → the new one


class Written(Struct, frozen=True):
    """What a write came to: the object's bytes, and whether it was created by it."""

    data: bytes
    is_created: bool = False


async def create(
    core: Core, endpoint: Endpoint, attributes: Attributes, write: WriteOptions, obj: Object, *, applied: bool = False
) -> Written:
    """Creates `obj`, decoded and in the stored version. `applied`: its managedFields are already right."""
    rules = endpoint.rules
    attributes.operation, attributes.object = "CREATE", obj
    rules.default(obj)
    metadata = obj.setdefault("metadata", {})
    claimed = "" if applied else str(metadata.get("resourceVersion") or "")  # an apply may name the one that was
    if not applied:  # what the client asked for is the client's; what the server adds from here on is nobody's
        metadata_rules.wipe_system_fields(obj)
        _record(core, endpoint, attributes, write, None, obj)
    _settle(endpoint, obj)
    base = metadata.get("generateName") if not metadata.get("name") else None
    tries = NAME_TRIES if base else 1
    if base:
        metadata["name"] = generated_name(core, base)
    # A Job's selector needs name and uid.
    rules.prepare_create(obj, uid=core.new_uid(), now=core.now(), is_applied=applied)
    attributes.name = metadata.get("name") or ""
    succeeded = False
    # What comes into being by its status has been given nothing: neither addresses nor ports.
    strategy = None if attributes.subresource else core.tables.strategies.get(endpoint.stored.group_resource)
    try:
        await core.admission.mutate(attributes)
        drop_repeated_owners(obj, attributes, " after mutating admission happens")
        rules.default(obj)  # what admission added has defaults too
        if strategy:
            await strategy.before_write(attributes)
        _check(endpoint, obj, rules.validate_create(obj))
        attributes.warnings += rules.warnings(obj)
        await core.admission.validate(attributes)
        for attempt in range(tries):
            if attempt and base:
                metadata["name"] = attributes.name = generated_name(core, base)
            key = endpoint.cache.key(meta.namespace(obj), meta.name(obj))
            if write.dry_run:
                if key in endpoint.cache.entries:
                    raise _exists(endpoint, obj)
                return Written(encoding.encode(endpoint.stored, obj), True)
            if claimed.isdecimal() and int(claimed):  # what is no revision is no claim either
                raise ApiError("resourceVersion should not be set on objects to be created")
            value = encoding.encode(endpoint.stored, obj)
            try:
                revision = await core.store.create(key, value, ttl_s=endpoint.ttl_s)
            except KeyExists as error:
                if attempt + 1 == tries:
                    raise _exists(endpoint, obj) from error
            except StoreFailed as error:
                raise ServiceUnavailable(f"storage is not available: {error}") from error
            else:
                succeeded = True
                return Written(encoding.with_revision(value, endpoint.cache.head, revision), True)
        raise AssertionError("the last try returns or raises")
    finally:
        if strategy:
            await strategy.after_write(attributes, succeeded=succeeded)


async def update(
    core: Core,
    endpoint: Endpoint,
    attributes: Attributes,
    write: WriteOptions,
    change: Change,
    *,
    applied: bool = False,
    is_patch: bool = False,
) -> Written:
    """Changes the object that `attributes` names, until it holds or cannot. NotFound, Conflict, Invalid, Forbidden.
    A patch that comes out with the revision that it was applied to did not ask for one."""
    for _ in range(_RETRIES_MAX):
        entry = find(endpoint, attributes.namespace, attributes.name)
        old = encoding.decode(entry.data)
        new = await change(old)
        has_revision = _check_preconditions(endpoint, new, old, is_patch=is_patch) and not is_patch
        try:
            return await _update_once(core, endpoint, attributes, write, entry, new, old, applied)
        except RevisionMismatch as error:
            if has_revision:
                raise modified(endpoint, entry.name) from error
        except StoreFailed as error:
            raise ServiceUnavailable(f"storage is not available: {error}") from error
        await core.cache.moved_past(endpoint.cache, entry)
    raise modified(endpoint, attributes.name)


async def _update_once(
    core: Core,
    endpoint: Endpoint,
    attributes: Attributes,
    write: WriteOptions,
    entry: Entry,
    new: Object,
    old: Object,
    applied: bool,
) -> Written:
    rules, subresource = endpoint.rules, attributes.subresource
    attributes.operation, attributes.object, attributes.old_object = "UPDATE", new, old
    rules.default(new)
    if not applied:
        _record(core, endpoint, attributes, write, old, new)
    _settle(endpoint, new)
    if narrow := NARROW.get((endpoint.stored.group_resource, subresource)):
        attributes.object = new = narrow(new, old, core.now())  # after it is noted what was asked for
    rules.prepare_update(new, old, subresource)
    new["metadata"]["resourceVersion"] = str(entry.revision)
    strategy = core.tables.strategies.get(endpoint.stored.group_resource)
    succeeded = False
    try:
        await core.admission.mutate(attributes)
        drop_repeated_owners(new, attributes, " after mutating admission happens")
        if strategy and not subresource:
            await strategy.before_write(attributes)
        managed_fields.keep_times_if_unchanged(new, old)
        # Of a part of the object that has rules of its own nothing is told.
        told = rules.warnings_of_update(new, old) if subresource in ("", "scale") else []
        if new == old and not applied:  # the rules held when it was stored; admission may have changed its mind
            attributes.warnings += told
            await core.admission.validate(attributes)
            return Written(entry.data)
        _check(endpoint, new, rules.validate_update(new, old, subresource))
        attributes.warnings += told
        await core.admission.validate(attributes)
        if new == old:
            return Written(entry.data)
        value = encoding.encode(endpoint.stored, new)
        if write.dry_run:
            return Written(encoding.with_revision(value, endpoint.cache.head, entry.revision))
        if is_done(new):
            await core.store.delete(entry.key, expected=entry.revision)
            succeeded = True
            return Written(encoding.with_revision(value, endpoint.cache.head, entry.revision))
        revision = await core.store.update(entry.key, value, expected=entry.revision, ttl_s=endpoint.ttl_s)
        succeeded = True
        return Written(encoding.with_revision(value, endpoint.cache.head, revision))
    finally:
        if strategy and not subresource:
            await strategy.after_write(attributes, succeeded=succeeded)


def drop_repeated_owners(obj: Object, attributes: Attributes, when: str = "") -> None:
    """Keeps one of owner references that are quite the same, and warns of the others."""
    metadata = obj.get("metadata") or {}
    kept: list[Object] = []
    repeated = []
    for reference in metadata.get("ownerReferences") or ():
        if reference in kept:
            repeated.append(reference.get("uid") or "")
        else:
            kept.append(reference)
    if repeated:
        metadata["ownerReferences"] = kept
        attributes.warnings.append(
            f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
            "and may reject such requests as early as 1.24; please fix your requests; "
            f"duplicate UID(s) observed: {', '.join(repeated)}"
        )


def is_done(obj: Object) -> bool:
    """Whether a deleting object has nothing left to wait for."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def generated_name(core: Core, base: str) -> str:
    suffix = "".join(core.random.choices(NAME_ALPHABET, k=NAME_RANDOM_LENGTH))
    return base[: NAME_LENGTH_MAX - NAME_RANDOM_LENGTH] + suffix


def check_names(endpoint: Endpoint, obj: Object, namespace: str, name: str, *, is_named: bool = False) -> None:
    """The body agrees with the path, or leaves it to the path; an update must name its object (`is_named`)."""
    metadata = obj["metadata"] = obj.get("metadata") or {}
    if endpoint.resource.namespaced:
        if metadata.get("namespace", namespace) not in ("", namespace):
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)  # whatever it says: there is none
    if not name:
        return
    if not metadata.get("name"):
        if is_named:
            raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        metadata["name"] = name
    elif metadata["name"] != name:
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")


def check_kind(endpoint: Endpoint, obj: Object) -> None:
    """The body is of this kind and version, or does not say; of a custom kind it has to say its version."""
    resource = endpoint.resource
    if resource.is_custom:
        _check_custom_kind(resource, obj)
    else:
        _check_built_in_kind(resource, obj)
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind


def _check_custom_kind(resource: Resource, obj: Object) -> None:
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not kind:
        text = encoding.encode_as_is(obj).decode()
        begin = f"{text[:BEGIN_MAX]} ..." if len(text) > BEGIN_MAX else text
        what = f"the object provided is unrecognized (must be of type {resource.kind})"
        raise BadRequest(f"{what}: Object 'Kind' is missing in '{text}' ({begin})")
    if version != resource.api_version:
        raise _other_version(version, resource)
    if kind != resource.kind:
        causes = [faults.invalid("kind", kind, f"must be {resource.kind}")]
        raise status.invalid(resource.group, kind, meta.name(obj), causes)


def _check_built_in_kind(resource: Resource, obj: Object) -> None:
    version, kind = obj.get("apiVersion") or resource.api_version, obj.get("kind") or resource.kind
    group, _, bare = version.rpartition("/")
    is_known = schema.type_of_kind(group, bare, kind) is not None
    if (group, kind) != (resource.group, resource.kind) or not is_known:
        raise BadRequest(not_this(version, kind, resource))
    if version != resource.api_version:
        raise _other_version(version, resource)


def _other_version(version: str, resource: Resource) -> BadRequest:
    return BadRequest(
        f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
    )


def not_this(api_version: str, kind: str, resource: Resource) -> str:
    """What a client is told whose body is of another kind."""
    version, why = faults.shown(api_version.rpartition("/")[2]), decoding.unconvertible(api_version, kind, resource)
    return f"{kind} in version {version} cannot be handled as a {resource.kind}: {why}"


def _check_preconditions(endpoint: Endpoint, new: Object, old: Object, *, is_patch: bool) -> bool:
    """Whether the client said which revision its change is based on; Conflict where that is not the present one.
    Another uid is another object, but to a patch, where it is a change of what cannot change."""
    metadata, stored = new.setdefault("metadata", {}), old["metadata"]
    uid = metadata.get("uid")
    if uid and uid != stored["uid"] and not is_patch:
        key = endpoint.stored.storage_key(meta.namespace(old), stored["name"])
        why = (
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored['uid']}"
        )
        raise status.conflict(endpoint.resource.group, endpoint.resource.plural, stored["name"], why)
    version = asked_revision(new)
    if version in ("", "0"):
        if endpoint.stored.group_resource in NEEDS_REVISION or endpoint.resource.is_custom:
            cause = status.Cause(
                "metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0: must be specified for an update"
            )
            raise status.invalid(endpoint.resource.group, endpoint.resource.plural, stored["name"], [cause])
        return False
    if version != stored["resourceVersion"]:
        raise modified(endpoint, stored["name"])
    return True


def asked_revision(obj: Object) -> str:
    """The revision that a written object names; empty: none."""
    version: str = (obj.get("metadata") or {}).get("resourceVersion") or ""
    try:
        if version:
            parse_revision(version)
    except ValueError as error:
        raise ApiError(str(error)) from error
    return version


def modified(endpoint: Endpoint, name: str) -> Conflict:
    return status.conflict(endpoint.resource.group, endpoint.resource.plural, name, MODIFIED)


def _settle(endpoint: Endpoint, obj: Object) -> None:
    """As what is stored in protobuf comes back; definitions and APIServices are stored in JSON."""
    kind = None if endpoint.stored.is_custom or endpoint.stored.group in OWN_STORES else schema.type_of(endpoint.stored)
    if kind is not None:
        nulls.settled(obj, kind)


def _exists(endpoint: Endpoint, obj: Object) -> ApiError:
    return status.already_exists(endpoint.resource.group, endpoint.resource.plural, meta.name(obj))


def _check(endpoint: Endpoint, obj: Object, causes: list[status.Cause]) -> None:
    if causes:
        raise status.invalid(endpoint.stored.group, endpoint.resource.kind, meta.name(obj), causes)


def _record(
    core: Core, endpoint: Endpoint, attributes: Attributes, write: WriteOptions, old: Object | None, new: Object
) -> None:
    """Sets `new`'s managedFields: who wrote owns fields of the version that they wrote, not of the stored one. Where a
    webhook converts, what is about to be stored cannot be shown in that version yet."""
    ignored = endpoint.rules.reset_fields(attributes.subresource)
    conversion = endpoint.conversion
    is_stored = conversion is None or conversion.is_remote
    version = endpoint.stored.api_version if is_stored else endpoint.resource.api_version
    writer = Writer(write.field_manager, version, core.now(), attributes.subresource)
    if conversion is None or conversion.is_remote:
        managed_fields.record_update(old, new, endpoint.type, writer, ignored)
        return
    shown = meta.copied(conversion.to_served(new))
    live = conversion.to_served(old) if old is not None else None
    managed_fields.record_update(live, shown, endpoint.type, writer, ignored)
    managed_fields.store_entries(new, shown["metadata"].get("managedFields"))
