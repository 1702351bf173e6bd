"""GET and LIST, from the watch cache.

Reads without a resourceVersion see every write acknowledged before them. `resourceVersion=N` may be answered from
anything at least as new; what is newer than the server knows answers 504 after FUTURE_WAIT_S, so that a client that
moved here from a faster server tries again. A paged list is one snapshot: its continue token holds the revision and the
last key, and later pages come from the store as of that revision, until it is compacted (410, with a token that goes on
at the present). Source: Kubernetes API concepts, "Resource versions", "Retrieving large results sets in chunks".
"""

from __future__ import annotations

import asyncio
import base64
import binascii

import orjson
from msgspec import Struct

from orchestrator.api import decoding
from orchestrator.api.resources import COMPONENTSTATUSES
from orchestrator.api.status import ApiError, BadRequest, Cause, Expired, ServiceUnavailable, Timeout, not_found
from orchestrator.api.wire import Request
from orchestrator.apiserver import options, selection
from orchestrator.apiserver.binary import Binary
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.negotiation import Accepted
from orchestrator.apiserver.options import EXACT, ListOptions
from orchestrator.apiserver.representation import check_metadata, list_document, renderer
from orchestrator.apiserver.resourcecache import INDEXED_FIELD, Entry
from orchestrator.apiserver.selection import Selection
from orchestrator.store.interface import Compacted, FutureRevision, StoreFailed

FUTURE_WAIT_S = 3.0
_PAGE_KEYS = 500  # keys of a snapshot that are looked at in one go where a selector thins them out
CONTINUE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


async def settled(core: Core, endpoint: Endpoint) -> None:
    """Until what was written in another version is there in the one that is kept; what is not stored is observed."""
    if endpoint.resource is COMPONENTSTATUSES and core.components is not None:
        await core.components.observe(endpoint.cache)
    if endpoint.cache.held is not None:
        try:
            await core.cache.settled(endpoint.cache)
        except StoreFailed as error:
            raise ServiceUnavailable(str(error)) from error


def find(endpoint: Endpoint, namespace: str, name: str) -> Entry:
    entry = endpoint.cache.get(namespace, name)
    if entry is None:
        raise not_found(endpoint.resource.group, endpoint.resource.plural, name)
    return entry


async def get(core: Core, endpoint: Endpoint, request: Request, namespace: str, name: str, accepted: Accepted) -> bytes:
    if request.query and (version := request.param("resourceVersion")):
        try:
            revision = options.parse_revision(version)
        except ValueError as error:
            raise BadRequest(f'resourceVersion: Invalid value: "{version}": {error}') from error
        await not_in_the_future(core, revision)
    await settled(core, endpoint)
    entry = find(endpoint, namespace, name)
    if accepted.is_plain and endpoint.conversion is None:
        return entry.data
    check_metadata(accepted, endpoint.stored, is_list=False)
    await endpoint.ready(core, (entry.data,))
    render = renderer(core, endpoint, accepted, request)
    return render(entry, entry.data) if render else entry.data


async def list_objects(core: Core, endpoint: Endpoint, request: Request, namespace: str, accepted: Accepted) -> bytes:
    asked = options.list_options(request, watch=False)
    selected = selection.parse(asked.label_selector, asked.field_selector, endpoint.picker)
    render = renderer(core, endpoint, accepted, request)
    page = await select(core, endpoint, asked, selected, namespace)
    check_metadata(accepted, endpoint.stored, is_list=True)
    await endpoint.ready(core, (entry.data for entry in page.entries))
    if isinstance(render, Binary):
        await render.prepare(page.entries)
    return list_document(endpoint, page.entries, render, page.revision, page.continue_token, page.remaining)


class Page(Struct, frozen=True):
    entries: list[Entry]
    revision: int
    continue_token: str = ""
    remaining: int = 0


async def select(core: Core, endpoint: Endpoint, asked: ListOptions, selected: Selection, namespace: str) -> Page:
    """The page of entries that a list request means."""
    await settled(core, endpoint)
    if endpoint.is_remote and not selected.is_everything:
        await endpoint.ready(core, [entry.data for entry in endpoint.cache.range(namespace)])
    if asked.continue_token:
        return await _next_page(core, endpoint, asked, selected, namespace)
    if asked.revision:
        await not_in_the_future(core, asked.revision)
        exact = asked.match == EXACT or (asked.limit and not asked.match)
        if exact and not _is_present(core, endpoint, asked.revision):
            return await _snapshot(core, endpoint, asked, selected, namespace, asked.revision, "")
    limit = 0 if asked.revision == 0 else asked.limit
    return _cut(endpoint, selected, namespace, "", limit, core.cache.revision)


def _candidates(endpoint: Endpoint, selected: Selection, namespace: str, after: str) -> list[Entry]:
    """The entries of the present that the best index there is finds, in key order."""
    cache = endpoint.cache
    node = selected.fields.required(INDEXED_FIELD)
    if selected.name is not None and (namespace or not endpoint.resource.namespaced):
        found = cache.get(namespace, selected.name)
        return [found] if found is not None and found.key > after else []
    if node:
        return [entry for entry in cache.on_node(node) if namespace in ("", entry.namespace) and entry.key > after]
    return cache.range(namespace, after)


def _cut(endpoint: Endpoint, selected: Selection, namespace: str, after: str, limit: int, revision: int) -> Page:
    """The first `limit` of the selected; there may be more where anything comes after them, selected or not."""
    found = _candidates(endpoint, selected, namespace, after)
    entries = found if selected.is_everything else [entry for entry in found if endpoint.selects(selected, entry)]
    if not limit or len(entries) < limit or entries[limit - 1] is found[-1]:
        return Page(entries, revision)
    page = entries[:limit]
    token = continue_token(revision, page[-1].key[len(endpoint.cache.prefix) :])
    return Page(page, revision, token, len(entries) - limit if selected.is_everything else 0)


async def _next_page(core: Core, endpoint: Endpoint, asked: ListOptions, selected: Selection, namespace: str) -> Page:
    if asked.revision:
        raise BadRequest("specifying resource version is not allowed when using continue")
    revision, start = read_token(asked.continue_token)
    after = endpoint.cache.prefix + start
    if revision < 0 or _is_present(core, endpoint, revision):
        present = core.cache.revision if revision < 0 else revision
        return _cut(endpoint, selected, namespace, after, asked.limit, present)
    try:
        return await _snapshot(core, endpoint, asked, selected, namespace, revision, after)
    except Expired as error:
        raise _ContinueExpired(continue_token(-1, start)) from error


def _is_present(core: Core, endpoint: Endpoint, revision: int) -> bool:
    """Whether the snapshot of a revision is still the present. One that is compacted is refused all the same: how long
    a token holds depends on its age, not on whether anyone wrote."""
    return endpoint.cache.changed <= revision and revision >= core.store.compacted


async def _snapshot(
    core: Core, endpoint: Endpoint, asked: ListOptions, selected: Selection, namespace: str, revision: int, after: str
) -> Page:
    """A page as of an older revision, from the store; one entry more than asked for tells whether there is a next."""
    cache = endpoint.cache
    prefix = f"{cache.prefix}{namespace}/" if namespace else cache.prefix
    entries: list[Entry] = []
    remaining = 0
    while not asked.limit or len(entries) <= asked.limit:
        limit = 0 if not asked.limit else asked.limit + 1 if selected.is_everything else _PAGE_KEYS
        try:
            page = await core.store.range(prefix, revision=revision, after=after, limit=limit)
        except Compacted as error:
            raise Expired(f"The resourceVersion for the provided list is too old: {revision}") from error
        except FutureRevision as error:
            raise too_large(revision, error.latest) from error
        values = await cache.converted_values([item.value for item in page.items])
        found = [
            cache.entry(item.key, value, item.revision, item.create_revision)
            for item, value in zip(page.items, values, strict=True)
        ]
        if not selected.is_everything:
            await endpoint.ready(core, [entry.data for entry in found])
            found = [entry for entry in found if endpoint.selects(selected, entry)]
        entries += found
        remaining = page.remaining
        if not page.remaining:
            break
        after = page.items[-1].key
    if not asked.limit or len(entries) <= asked.limit:
        return Page(entries, revision)
    token = continue_token(revision, entries[asked.limit - 1].key[len(cache.prefix) :])
    left = len(entries) - asked.limit + remaining if selected.is_everything else 0
    return Page(entries[: asked.limit], revision, token, left)


class _ContinueExpired(Expired):
    """410 whose Status brings the token that goes on at the present."""

    def __init__(self, token: str) -> None:
        super().__init__(CONTINUE_TOO_OLD)
        self._token = token

    def to_status(self) -> dict[str, object]:
        return ApiError.to_status(self) | {"metadata": {"continue": self._token}}


def continue_token(revision: int, start: str) -> str:
    text = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start + "\x00"})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def read_token(token: str) -> tuple[int, str]:
    """(revision, last key); revision -1 means the present."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, start = int(found["rv"]), str(found["start"]).removesuffix("\x00")
    except binascii.Error as error:
        why = f"illegal base64 data at input byte {decoding.bad_base64_at(token)}"
        raise BadRequest(f"invalid continue token: continue key is not valid: {why}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"invalid continue token: continue key is not valid: {error}") from error
    if found.get("v") != "meta.k8s.io/v1":
        raise BadRequest("invalid continue token: server does not recognize this encoded version")
    if revision == 0 or ".." in start.split("/"):
        raise BadRequest("invalid continue token: continue key is not valid")
    return revision, start


async def not_in_the_future(core: Core, revision: int) -> None:
    """Waits a little for a revision that this server has not seen; Timeout where it does not come."""
    if revision <= core.cache.revision:
        return
    deadline = asyncio.get_running_loop().time() + FUTURE_WAIT_S
    while revision > core.cache.revision:
        if asyncio.get_running_loop().time() >= deadline:
            raise too_large(revision, core.cache.revision)
        await asyncio.sleep(0.05)


def too_large(revision: int, current: int) -> Timeout:
    cause = Cause("", "ResourceVersionTooLarge", "Too large resource version")
    return Timeout(
        f"Timeout: Too large resource version: {revision}, current: {current}",
        details={"retryAfterSeconds": 1},
        causes=[cause],
    )
