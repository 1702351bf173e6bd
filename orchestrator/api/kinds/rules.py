"""The rules of one kind, as the API server applies them to a write, in this order:

    create   decode → default → prepare_create → (admission) → validate_create
    update   decode → default → prepare_update → (admission) → validate_update

`default` and `prepare_…` change the object in place; `validate_…` return Causes for `status.invalid`.
`subresource` is "" for the object itself, or "status", "scale", "binding", …: a status update keeps everything but the
status from the stored object, a main update keeps the stored status. An update that changes the desired state moves
`metadata.generation` by one; a status update never does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from orchestrator.api import decoding, meta, schema
from orchestrator.api.kinds import formats, metadata
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age
from orchestrator.api.meta import Object, name
from orchestrator.api.patch import field_sets
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.resources import Resource
from orchestrator.api.status import Cause

# Groups that leave it to their finalizers what they are called.
ANY_FINALIZERS = (
    "admissionregistration.k8s.io",
    "coordination.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "node.k8s.io",
)
STATUS_SUBRESOURCES = ("status", "approval")  # an approval is a condition in the status


def _nothing(obj: Object) -> None:
    pass


def _nothing_about_both(new: Object, old: Object) -> None:
    pass


def _no_faults(obj: Object) -> list[Cause]:
    return []


def _no_faults_in_both(new: Object, old: Object) -> list[Cause]:
    return []


def _no_warnings(obj: Object) -> list[str]:
    return []


def _name_and_age(obj: Object, now: float) -> Cells:
    return [name(obj), age(obj, now)]


# Kinds of which a change of the prefix of a generated name is looked at too, though nothing comes of it any more.
PREFIX_AGAIN = frozenset(
    {
        "namespaces", "nodes", "pods", "endpoints", "configmaps", "secrets", "serviceaccounts", "persistentvolumes",
        "persistentvolumeclaims", "limitranges", "controllerrevisions.apps", "jobs.batch",
        "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", "ipaddresses.networking.k8s.io",
        "endpointslices.discovery.k8s.io", "storageclasses.storage.k8s.io", "volumeattachments.storage.k8s.io",
        "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io", "volumeattributesclasses.storage.k8s.io",
        "runtimeclasses.node.k8s.io", "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "resourceclaims.resource.k8s.io",
        "resourceclaimtemplates.resource.k8s.io", "apiservices.apiregistration.k8s.io",
    }
)  # fmt: skip


class KindRules(Struct, frozen=True, kw_only=True):
    """A kind is a resource plus these functions. Validators see objects with defaults; metadata is checked for all."""

    resource: Resource
    name_format: formats.NameFormat = formats.dns_subdomain
    has_generation: bool = False
    starts_generation: bool = True  # else the first change of the spec makes it 1
    moves_generation: bool = True
    counts_annotations: bool = False  # a change of annotations moves the generation too
    counts_labels: bool = False
    keeps_labels: bool = False  # a status update cannot change labels
    status_keeps_owners: bool = False  # old kubelets corrupted those of pods
    status_keeps_metadata: bool = False  # a status update cannot change metadata, so its manager owns none of it
    metadata_last: bool = False  # a new object's metadata is checked only where nothing else is wrong
    clears_status: bool = True  # a new object's status is dropped; a Node's is not: the kubelet registers with one
    default: Callable[[Object], None] = _nothing
    on_create: Callable[[Object], None] = _nothing  # e.g. a Pod becomes Pending
    on_update: Callable[[Object, Object], None] = _nothing_about_both
    on_status_update: Callable[[Object, Object], None] = _nothing_about_both
    faults: Callable[[Object], list[Cause]] = _no_faults
    update_faults: Callable[[Object, Object], list[Cause]] = _no_faults_in_both
    status_faults: Callable[[Object, Object], list[Cause]] = _no_faults_in_both
    # What an update through another subresource may change (a pod's resize), where that is not what an update may.
    subresource_faults: Mapping[str, Callable[[Object, Object], list[Cause]]] = field(default_factory=dict)
    # Subresource → paths of the fields that a write to it leaves alone, where that is not the status or all but it.
    resets: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    warnings: Callable[[Object], list[str]] = _no_warnings
    update_warnings: Callable[[Object, Object], list[str]] | None = None  # where they are not those of a new object
    columns: tuple[Column, ...] = (NAME, AGE)
    cells: Callable[[Object, float], Cells] = _name_and_age

    @property
    def has_status(self) -> bool:
        return self.resource.subresource("status") is not None

    def prepare_create(self, obj: Object, *, uid: str = "", now: str = "", is_applied: bool = False) -> None:
        """Drops what the server decides: system metadata and, where /status is its own resource, the status.

        `uid` and `now` (wire time) become the object's; the name must be there already, generated if need be. What is
        applied (`is_applied`) may say that it is being deleted: upstream forgets to take that away.
        """
        if not is_applied:
            metadata.wipe_system_fields(obj)
        obj["metadata"] |= {"uid": uid, "creationTimestamp": now} if uid else {}
        if self.resource.is_custom and self.has_status:
            obj.pop("status", None)
        elif self.has_status and self.clears_status:
            kind = schema.type_of(self.resource)
            obj["status"] = decoding.blank(kind.fields["status"].type) if kind and "status" in kind.fields else {}
        if self.has_generation and self.starts_generation:
            obj["metadata"]["generation"] = 1
        elif self.resource.is_custom:
            obj["metadata"].pop("generation", None)
        self.on_create(obj)

    @property
    def _own_finalizers(self) -> bool:
        return not self.resource.is_custom and self.resource.group not in ANY_FINALIZERS

    def validate_create(self, obj: Object) -> list[Cause]:
        found = metadata.create(
            obj,
            namespaced=self.resource.namespaced,
            name_format=self.name_format,
            own_finalizers=self._own_finalizers,
        )
        own = self.faults(obj)
        return _each_once(own if own and self.metadata_last else found + own)

    def prepare_update(self, new: Object, old: Object, subresource: str = "") -> None:
        """Keeps from `old` what this subresource may not change, and counts the generation."""
        metadata.carry_over(new, old)
        if subresource == "status" and self.resource.is_custom:
            _keep_custom(new, old)
            return
        if subresource in STATUS_SUBRESOURCES:
            self._keep_all_but_status(new, old)
            self.on_status_update(new, old)
            return
        if self.has_status:
            _keep(new, old, "status")
        if not subresource:
            self.on_update(new, old)
        moved = _desired_state(new) != _desired_state(old)
        if self.resource.is_custom and not self.has_status:  # then the status is a field as any other
            moved = moved or new.get("status") != old.get("status")
        if self.counts_annotations and not subresource:
            moved = moved or meta.annotations(new) != meta.annotations(old)
        if self.counts_labels and not subresource:
            moved = moved or meta.labels(new) != meta.labels(old)
        if self.has_generation and self.moves_generation and moved:
            new["metadata"]["generation"] = (old.get("metadata") or {}).get("generation", 0) + 1

    def _keep_all_but_status(self, new: Object, old: Object) -> None:
        for key in {*new, *old} - {"apiVersion", "kind", "metadata", "status"}:
            _keep(new, old, key)
        if self.keeps_labels:
            _keep(new["metadata"], old.get("metadata") or {}, "labels")
        if self.status_keeps_owners:
            _keep(new["metadata"], old.get("metadata") or {}, "ownerReferences")
        if self.status_keeps_metadata:
            for key in ("labels", "annotations", "finalizers", "ownerReferences"):
                _keep(new["metadata"], old.get("metadata") or {}, key)

    def reset_fields(self, subresource: str = "") -> FieldSet:
        """The fields that a write to this (sub)resource leaves alone, so that its manager cannot own them."""
        fields = FieldSet()
        if (paths := self.resets.get(subresource)) is not None:
            for path in paths:
                fields.add(*(field_sets.field(name) for name in path))
        elif subresource == "status":
            fields.add("f:spec")
            if self.resource.is_custom or self.status_keeps_metadata:
                fields.add("f:metadata")
            if self.keeps_labels:
                fields.add("f:metadata", "f:labels")
        elif self.has_status and not subresource:
            fields.add("f:status")
        return fields

    def warnings_of_update(self, new: Object, old: Object) -> list[str]:
        return self.warnings(new) if self.update_warnings is None else self.update_warnings(new, old)

    def validate_update(self, new: Object, old: Object, subresource: str = "") -> list[Cause]:
        found = metadata.update(new, old, own_finalizers=self._own_finalizers)
        if subresource == "status":
            return _each_once(found + self.status_faults(new, old))
        if not subresource and self.resource.group_resource in PREFIX_AGAIN:
            found = metadata.prefix_faults(new.get("metadata") or {}, self.name_format) + found
        check = self.subresource_faults.get(subresource, self.update_faults)
        return _each_once(found + check(new, old))


def _keep(new: Object, old: Object, key: str) -> None:
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)


def _keep_custom(new: Object, old: Object) -> None:
    """The status of a custom resource is all that a status write can change, but for the record of who did."""
    status, managed = new.get("status"), (new.get("metadata") or {}).get("managedFields")
    new.clear()
    new.update(meta.copied(old))
    new["metadata"].pop("managedFields", None)
    if managed:
        new["metadata"]["managedFields"] = managed
    new.pop("status", None)
    if status is not None:
        new["status"] = status


def _desired_state(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")}


def _each_once(causes: list[Cause]) -> list[Cause]:
    return list(dict.fromkeys(causes))
