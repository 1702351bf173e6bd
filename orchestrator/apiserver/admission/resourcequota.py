"""ResourceQuota: a namespace's objects together stay within its quotas, also when many are created at once.

Use is counted from the watch cache when something is about to be added, plus what was admitted and is not yet seen
there. Counting and admitting happen in one step of the event loop, so two writes cannot both take the last place. An
admitted write that fails holds its place for ADMITTED_S at most.
Deviation: upstream keeps the count in the quota's status; here the status is only a report, written just after.
Expected: 25 ms for a namespace of 1,000 pods with a quota; nothing for one without.
Errors: Forbidden with requested, used and limited amounts. Source: Kubernetes docs, "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from orchestrator.api import meta, quantity
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.podresources import Amounts, added, amounts
from orchestrator.api.quota_scopes import covers
from orchestrator.api.quota_usage import Usage, kind_of, kinds_of, unspecified, usage
from orchestrator.api.resources import RESOURCEQUOTAS, Resource, ResourceTable
from orchestrator.apiserver.admission.chain import ANY, refuse
from orchestrator.apiserver.admission.quota_report import QuotaReports
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes
from orchestrator.client.client import Client

ADMITTED_S = 10.0

Key = tuple[str, str, str]  # group_resource, namespace, name


class Admitted(Struct, frozen=True):
    """A write that may be on its way to the store."""

    usage: Usage
    until: float


class ResourceQuota:
    operations = ("CREATE", "UPDATE")
    resources = (ANY,)

    def __init__(self, lookup: Lookup, table: ResourceTable, clock: Clock) -> None:
        self._lookup = lookup
        self._table = table
        self._clock = clock
        self._admitted: dict[Key, Admitted] = {}
        self._reports: QuotaReports | None = None

    def report_through(self, client: Client) -> None:
        """From now on the statuses of quotas follow what is admitted."""
        self._reports = QuotaReports(self._lookup, self._counted, client)

    def _counted(self, quota: Object) -> Amounts:
        """What is used of each resource whose objects are kept here."""
        spec = quota.get("spec") or {}
        hard = amounts(spec.get("hard"))
        used = self._used(meta.namespace(quota), spec, hard)
        kept = [name for name in hard if _stored(self._table, kind_of(name)) is not None]
        return {name: used.get(name, Decimal(0)) for name in kept}

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.object
        if obj is None or not attributes.namespace or attributes.row is None:
            return
        quotas = list(self._lookup.list(RESOURCEQUOTAS, attributes.namespace))
        if not quotas:
            return
        now, before = self._clock.now(), attributes.old_object
        new = usage(attributes.group_resource, obj, now)
        old = usage(attributes.group_resource, before, now) if before else Usage({})
        grown = [quota for quota in quotas if self._grows(attributes, quota, new, old)]
        if self._reports is not None and not attributes.dry_run:
            for quota in grown:
                self._reports.due(attributes.namespace, meta.name(quota))
        if attributes.operation == "CREATE" and not attributes.dry_run:
            self._forget()
            key = (attributes.group_resource, attributes.namespace, meta.name(obj))
            self._admitted[key] = Admitted(new, self._clock.now() + ADMITTED_S)

    def _forget(self) -> None:
        """Nobody may ask again, so the oldest go by time too."""
        now = self._clock.now()
        for key, admitted in list(self._admitted.items()):
            if admitted.until >= now:
                break  # they lie in the order of admission
            del self._admitted[key]

    def _grows(self, attributes: Attributes, quota: Object, new: Usage, old: Usage) -> bool:
        """Whether more of the quota will be used; Forbidden where there is not so much."""
        spec = quota.get("spec") or {}
        hard = amounts(spec.get("hard"))
        if not covers(spec, new.scopes):
            return False
        if new.is_pod and attributes.operation == "CREATE":
            missing = unspecified(attributes.object or {}, hard)
            if missing:
                raise refuse(attributes, f"failed quota: {meta.name(quota)}: must specify {'; '.join(missing)}")
        before = old.amounts if covers(spec, old.scopes) else {}
        delta = {name: value - before.get(name, Decimal(0)) for name, value in new.amounts.items() if name in hard}
        delta = {name: value for name, value in delta.items() if value > 0}
        if not delta:
            return False
        used = self._used(attributes.namespace, spec, {name: hard[name] for name in delta})
        over = [name for name in delta if used.get(name, Decimal(0)) + delta[name] > hard[name]]
        if over:
            shown = [_shown(found, over, spec["hard"]) for found in (delta, used, hard)]
            what = f"requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}"
            raise refuse(attributes, f"exceeded quota: {meta.name(quota)}, {what}")
        return True

    def _used(self, namespace: str, spec: Object, hard: Amounts) -> Amounts:
        total: Amounts = {}
        now = self._clock.now()
        for group_resource in sorted(kinds_of(hard)):
            resource = _stored(self._table, group_resource)
            if resource is None:
                continue
            present = {meta.name(obj): obj for obj in self._lookup.list(resource, namespace)}
            for one in present.values():
                total = _plus(total, usage(group_resource, one, now), spec)
            for admitted in self._on_their_way(group_resource, namespace, present):
                total = _plus(total, admitted, spec)
        return {name: value for name, value in total.items() if name in hard}

    def _on_their_way(self, group_resource: str, namespace: str, present: Iterable[str]) -> list[Usage]:
        """What was admitted and is not in the cache yet; what has arrived, or waits too long, is forgotten."""
        now, seen, found = self._clock.now(), set(present), []
        for key, admitted in list(self._admitted.items()):
            if key[:2] != (group_resource, namespace):
                continue
            if key[2] in seen or admitted.until < now:
                del self._admitted[key]
            else:
                found.append(admitted.usage)
        return found


def _plus(total: Amounts, used: Usage, spec: Object) -> Amounts:
    return added(total, used.amounts) if covers(spec, used.scopes) else total


def _stored(table: ResourceTable, group_resource: str) -> Resource | None:
    rows = (row for row in table if row.group_resource == group_resource)
    return next((row for row in rows if row.namespaced and not row.storage_group_version), None)


def _shown(found: Amounts, names: Iterable[str], hard: dict[str, str]) -> str:
    parts = []
    for name in sorted(names):
        binary = str(hard[name]).endswith("i")
        value = found.get(name, Decimal(0))
        parts.append(f"{name}={quantity.format_binary(value) if binary else quantity.format_decimal(value)}")
    return ",".join(parts)
