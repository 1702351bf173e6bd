"""The API server's start: settings, parts, wiring, run.

Start-up, in order: open the store, load the watch cache, build the access chain on it, write what every cluster starts
with, listen, be ready. Shutdown: not ready, no new connections, watches end, the store commits what waits and closes.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import random
import ssl
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from msgspec import Struct, field

from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.resources import ResourceTable
from orchestrator.api.status import ApiError, MethodNotAllowed
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import bootstrap, compaction, notify, startup
from orchestrator.apiserver.access import Access, AccessConfig, Surroundings
from orchestrator.apiserver.aggregation.aggregator import Aggregator
from orchestrator.apiserver.aggregation.registration import Registration
from orchestrator.apiserver.aggregation.remote import Connections
from orchestrator.apiserver.asked import JSON_HEADERS, NOT_ALLOWED
from orchestrator.apiserver.audit import Audit, Policy
from orchestrator.apiserver.authn.clientcert import ClientCertificates, authorities
from orchestrator.apiserver.authn.oidc import OidcTokens
from orchestrator.apiserver.authn.requestheader import FrontProxies, RequestHeaders
from orchestrator.apiserver.bootstrap import Advertised
from orchestrator.apiserver.cachedlookup import CachedLookup
from orchestrator.apiserver.components import Components
from orchestrator.apiserver.custom.serving import CustomResources
from orchestrator.apiserver.discovery import Discovery
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.endpoint_leases import ServerEndpoints
from orchestrator.apiserver.fairness import upkeep
from orchestrator.apiserver.fairness.gate import Gate
from orchestrator.apiserver.fairness.report import Report
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.health import Health
from orchestrator.apiserver.http import HttpServer, server_tls
from orchestrator.apiserver.openapi.remote import RemoteDocuments
from orchestrator.apiserver.openapi.serving import OpenApi
from orchestrator.apiserver.pages import Pages, index
from orchestrator.apiserver.policies.policy import cel_lines
from orchestrator.apiserver.server import ApiServer, Route
from orchestrator.apiserver.services import authority
from orchestrator.apiserver.startup import StartUp, goes_on
from orchestrator.apiserver.storemetrics import StoreMetrics
from orchestrator.apiserver.strategies.rewrite import StoreRewriter
from orchestrator.apiserver.strategies.service import ServiceAllocation
from orchestrator.apiserver.strategies.service_repair import ServiceRepair
from orchestrator.apiserver.streams import table as streams
from orchestrator.apiserver.streams.backend import Backends, client_tls
from orchestrator.apiserver.version import build_info, version
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.apiserver.webhooks.caller import Caller
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.store.interface import Store, StoreError
from orchestrator.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from orchestrator.apiserver.encryption_reload import EncryptionKeeper

log = logging.getLogger(__name__)

# How long a thread may hold the interpreter while another waits: the store's writer thread, after each fsync.
SWITCH_INTERVAL_S = 0.0005
LEAVE_WAIT_S = 5.0  # for the store, when the server ends; after that its lease ends by itself
KEPT_AN_HOUR = {"cache-control": "public, max-age=3600"}  # what verifies our tokens
GC_ALLOCATIONS = 50_000  # between young collections; what the cache holds has no cycles


class Config(Struct, frozen=True, kw_only=True):
    """Files are PEM. `bind_addresses` are addresses to listen on; none means all. `store_path` is the SQLite file, or
    the store is etcd where `etcd_servers` names endpoints (https://host:2379)."""

    advertise_address: str
    tls_certificate_file: str
    tls_key_file: str
    client_ca_file: str
    access: AccessConfig
    bind_addresses: tuple[str, ...] = ()
    port: int = 6443
    store_path: str = "/var/lib/sampan/store/store.db"
    etcd_servers: tuple[str, ...] = ()
    etcd_ca_file: str = ""
    etcd_certificate_file: str = ""
    etcd_key_file: str = ""
    encryption_config_file: str = ""  # an EncryptionConfiguration
    encryption_config_automatic_reload: bool = False  # whether changes of that file are taken over
    audit_policy_file: str = ""  # an audit Policy; events go to audit_log_path
    audit_log_path: str = "/var/log/sampan/audit.log"
    kubelet_client_certificate_file: str = ""
    kubelet_client_key_file: str = ""
    kubelet_ca_file: str = ""
    proxy_client_certificate_file: str = ""  # by which aggregated servers know this one
    proxy_client_key_file: str = ""
    requestheader_client_ca_file: str = ""  # the CA of that certificate, and of the proxies that this server believes
    requestheader: RequestHeaders = field(default_factory=RequestHeaders)
    max_requests_inflight: int = 400  # together with the next, the seats that priority levels share
    max_mutating_requests_inflight: int = 200


class _State(Struct):
    is_ready: bool = False
    start_up: StartUp = field(default_factory=StartUp)
    background: list[asyncio.Task[None]] = field(default_factory=list)
    backends: Backends | None = None
    custom: CustomResources | None = None
    registration: Registration | None = None
    webhooks: Caller | None = None
    oidc: OidcTokens | None = None
    encryption: EncryptionKeeper | None = None
    documents: RemoteDocuments | None = None


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Serves until cancelled."""
    async with running(config):
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[ApiServer]:
    """A server that listens and is ready. Other components of the process reach it by its `handle`."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    state = _State()
    store = await opened_store(config, state)
    try:
        server = await _assembled(config, store, state)
        network = HttpServer(server.handle, _tls(config))
        await network.listen(config.bind_addresses, config.port)
        state.is_ready = True
        named = await _named(config, store, server)
        gc.collect()
        gc.freeze()  # what start-up made stays; collections need not look at it again
        log.info("serving", extra={"port": config.port, "revision": store.revision})
        try:
            notify.ready()
            yield server
        finally:
            state.is_ready = False
            await _unnamed(named)
            if state.custom is not None:
                await state.custom.close()
            if state.registration is not None:
                await state.registration.close()
            if state.documents is not None:
                await state.documents.close()
            if server.aggregator is not None:
                await server.aggregator.close()
            await server.close()
            await network.close()
            for task in state.background:
                task.cancel()
            await asyncio.gather(*state.background, return_exceptions=True)
            if state.backends is not None:
                await state.backends.close()
            if state.oidc is not None:
                await state.oidc.close()
            if server.audit is not None:
                server.audit.close()
            if state.webhooks is not None:
                await state.webhooks.close()
    finally:
        if state.encryption is not None:
            await state.encryption.close()
        await store.close()


class _Named(Struct):
    """This server among the endpoints of the Service `kubernetes`."""

    endpoints: ServerEndpoints
    renewing: asyncio.Task[None]


async def _named(config: Config, store: Store, server: ApiServer) -> _Named | None:
    if ipaddress.ip_address(config.advertise_address).is_loopback:
        log.warning("no endpoints for a loopback address", extra={"address": config.advertise_address})
        return None
    endpoints = ServerEndpoints(store, server.client, server.lookup, config.advertise_address, config.port)
    await endpoints.renew()
    return _Named(endpoints, asyncio.get_running_loop().create_task(endpoints.run()))


async def _unnamed(named: _Named | None) -> None:
    """Clients are sent elsewhere before this server stops answering."""
    if named is None:
        return
    named.renewing.cancel()
    await asyncio.gather(named.renewing, return_exceptions=True)
    try:
        await asyncio.wait_for(named.endpoints.leave(), LEAVE_WAIT_S)
    except (ApiError, StoreError, ConnectionError, TimeoutError) as error:
        log.warning("endpoint not taken away", extra={"cause": str(error)})


async def opened_store(config: Config, state: _State) -> Store:
    store = await _store(config)
    if not config.encryption_config_file:
        return store
    from orchestrator.apiserver.encryption_reload import EncryptionKeeper  # few servers have need of its libraries

    state.encryption = EncryptionKeeper(
        config.encryption_config_file,
        SystemClock(),
        new_uid,
        f"{config.advertise_address}:{config.port}",
        reload=config.encryption_config_automatic_reload,
    )
    try:
        return await state.encryption.opened(store)
    except BaseException:
        await store.close()
        raise


async def _store(config: Config) -> Store:
    if not config.etcd_servers:
        return await SqliteStore.open(config.store_path)
    from orchestrator.store.etcd import EtcdStore  # most servers have no etcd, and need not pay for its client

    tls = None
    if config.etcd_ca_file:
        tls = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=config.etcd_ca_file)
        if config.etcd_certificate_file:
            tls.load_cert_chain(config.etcd_certificate_file, config.etcd_key_file)
    return await EtcdStore.open(config.etcd_servers, tls)


async def _assembled(config: Config, store: Store, state: _State) -> ApiServer:
    cache = WatchCache(store)
    table = ResourceTable()
    for row in table:
        if not row.storage_group_version:
            cache.add(row)
    await cache.start()
    lookup = CachedLookup(cache)
    clock, chance = SystemClock(), random.Random()
    around = Surroundings(lookup=lookup, clock=clock, random=chance, new_uid=new_uid, resources=table)
    access = Access(config.access, around, *_certificates(config, clock))
    state.webhooks, state.oidc = access.webhooks, access.oidc
    if access.oidc is not None:
        access.oidc.start()
    components = Components(lookup, clock)
    components.checks["etcd-0"] = lambda: store.failure
    core = Core(
        store=store,
        cache=cache,
        clock=clock,
        new_uid=new_uid,
        random=chance,
        admission=access.admission,
        tables=Tables(),
        resources=table,
        conversions=access.conversions,
        components=components,
    )
    server = ApiServer(core, lookup, access.authenticator, access.authorizer)
    if config.audit_policy_file:
        server.audit = Audit(Policy.read(config.audit_policy_file), config.audit_log_path)
    addresses, ports = access.addresses(server.client), access.node_ports(store)
    core.tables = access.tables(StoreRewriter(store, cache), server.client, ServiceAllocation(addresses, ports))
    if config.kubelet_client_certificate_file:
        state.backends = Backends(lookup, kubelet_tls(config))
        core.tables.handlers = {**core.tables.handlers, **streams.handlers(state.backends, lookup, chance)}
    server.add_resources(table)
    connections = Connections(lookup, config.proxy_client_certificate_file, config.proxy_client_key_file)
    server.aggregator = Aggregator(core, lookup, server.client, connections)
    state.documents = RemoteDocuments(server.aggregator, lookup)
    seats = config.max_requests_inflight + config.max_mutating_requests_inflight
    server.gate = Gate(lookup, core.endpoints, seats, clock)
    add_routes(config, server, access, state)
    server.start()
    loop, did = asyncio.get_running_loop(), state.start_up.did
    did(startup.CACHES)
    did(startup.FAIRNESS)
    state.background.append(loop.create_task(compaction.keep_compact(store)))
    ranges = config.access.service_cluster_ip_ranges
    advertised = Advertised(address=config.advertise_address, port=config.port, service_ranges=ranges)
    state.custom = CustomResources(core, lookup, server.client)
    await state.custom.start()
    did(startup.CUSTOM)
    await bootstrap.bootstrap(server.client, lookup, advertised, _trust(config), clock.now())
    did(startup.OBJECTS)
    await access.bootstrap(server.client)
    did(startup.ROLES)
    await upkeep.ensure(server.client, lookup)
    repair = ServiceRepair(server.client, lookup, ports, clock)
    await repair.once()
    keeping = upkeep.Upkeep(server.gate, server.client, lookup, clock)
    tasks = [loop.create_task(one.run()) for one in (keeping, repair)]
    state.background += tasks
    did(startup.LEVELS, goes_on(tasks[0]))
    did(startup.REPAIR, goes_on(tasks[1]))
    server.aggregator.start()
    did(startup.AGGREGATION)
    state.documents.start()
    did(startup.DOCUMENTS)
    state.registration = Registration(lookup, server.client)
    did(startup.REGISTRATION, goes_on(await state.registration.start()))
    did(startup.REGISTERED, state.registration.fault)
    return server


def _trust(config: Config) -> dict[str, str]:
    """What aggregated servers have to believe: the cluster's clients, and this server when it says who asks."""
    found = {"client-ca-file": Path(config.client_ca_file).read_text()}
    if config.requestheader_client_ca_file:
        authority = Path(config.requestheader_client_ca_file).read_text()
        found |= bootstrap.requestheader(authority, config.requestheader)
    return found


def _tls(config: Config) -> ssl.SSLContext:
    authorities = [file for file in (config.client_ca_file, config.requestheader_client_ca_file) if file]
    return server_tls(config.tls_certificate_file, config.tls_key_file, *authorities)


def _certificates(config: Config, clock: Clock) -> tuple[ClientCertificates, FrontProxies | None]:
    """Whose certificates are believed, and what for."""
    clients = ClientCertificates(clock, authorities(Path(config.client_ca_file).read_bytes()))
    if not config.requestheader_client_ca_file:
        return clients, None
    proxies = ClientCertificates(clock, authorities(Path(config.requestheader_client_ca_file).read_bytes()))
    return clients, FrontProxies(proxies, config.requestheader)


def kubelet_tls(config: Config) -> ssl.SSLContext:
    """How this server shows itself to kubelets."""
    ca = config.kubelet_ca_file or config.client_ca_file
    return client_tls(Path(ca), Path(config.kubelet_client_certificate_file), Path(config.kubelet_client_key_file))


def new_uid() -> str:
    return str(uuid.uuid4())


def _size_bytes(store_path: str) -> int:
    """Of the file, with what it has not taken over from its log."""
    files = (Path(store_path), Path(f"{store_path}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _log_fault() -> str | None:
    """Why what this server says is lost."""
    streams = (getattr(handler, "stream", None) for handler in logging.getLogger().handlers)
    return "the log is closed" if any(getattr(stream, "closed", False) for stream in streams) else None


def read_only(route: Route) -> Route:
    """Refuses all methods but GET."""

    async def read(request: Request) -> Response:
        if request.method != "GET":
            raise MethodNotAllowed(NOT_ALLOWED)
        return await route(request)

    return read


def add_routes(config: Config, server: ApiServer, access: Access, state: _State) -> None:
    """The paths that are no resources."""
    address = authority(config.advertise_address, config.port)
    discovery = Discovery(server.core.resources, server.aggregator, address)
    openapi = OpenApi(server.core.resources, server.core.clock, state.documents)
    steps, pages = state.start_up.checks(), Pages(config, server.core.clock.now)
    health = Health(
        live={"ping": lambda: None, "log": _log_fault, "etcd": lambda: server.core.store.failure, **steps},
        ready={
            "etcd-readiness": lambda: server.core.store.failure,
            "informer-sync": lambda: None if server.core.cache.revision else "no cache is loaded",
            "shutdown": lambda: None if state.is_ready else "starting or stopping",
        },
        well={"kms-providers": state.encryption.check} if state.encryption and state.encryption.has_check else {},
    )

    async def metrics(request: Request) -> Response:
        return Response(200, {"content-type": "text/plain; version=0.0.4"}, server.metrics.text())

    async def openid(request: Request) -> Response:
        return Response(200, {**JSON_HEADERS, **KEPT_AN_HOUR}, orjson.dumps(access.openid_configuration()))

    async def jwks(request: Request) -> Response:
        headers = {"content-type": "application/jwk-set+json", **KEPT_AN_HOUR}
        return Response(200, headers, orjson.dumps(access.keys.jwks()))

    async def root(request: Request) -> Response:
        rows = server.core.resources
        return Response(
            200, dict(JSON_HEADERS), index(server.routes, ((row.group, row.version) for row in rows), health.paths())
        )

    server.routes |= {
        "": root,
        "/api": read_only(discovery.core),
        "/api/": read_only(discovery.core),
        "/apis": read_only(discovery.groups),
        "/apis/": read_only(discovery.groups),
        "/openapi/v2": openapi.v2,
        "/openapi/v3": openapi.v3,
        "/openapi/v3/": openapi.v3,
        "/version": read_only(version),
        "/metrics": metrics,
        "/metrics/slis": health.metrics,
        "/.well-known/openid-configuration": openid,
        "/openid/v1/jwks": jwks,
        "/statusz": read_only(pages.statusz),
        "/flagz": read_only(pages.flagz),
    }
    if server.gate is not None:
        report = Report(server.gate)
        server.routes |= report.routes()
        server.metrics.others.append(report.metrics)
    stored = StoreMetrics(server.core.cache, None if config.etcd_servers else partial(_size_bytes, config.store_path))
    server.metrics.others += [stored.lines, access.admission.timing.lines, cel_lines, build_info]
    if state.encryption is not None:
        server.metrics.others.append(state.encryption.metrics)
        state.background.append(asyncio.get_running_loop().create_task(state.encryption.run()))
    for name, route in (("healthz", health.healthz), ("livez", health.livez), ("readyz", health.readyz)):
        server.routes[f"/{name}"] = server.routes[f"/{name}/"] = route
    server.metrics.gauge(
        "apiserver_storage_revision", "The latest revision of the store.", lambda: server.core.store.revision
    )
