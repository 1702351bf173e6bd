"""What is counted, and under which names and labels: those of kube-apiserver v1.36."""

from __future__ import annotations

from typing import Any

from orchestrator.api.resources import CONFIGMAPS as CONFIGMAP_ROW
from orchestrator.api.status import Forbidden
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.admission.chain import Chain
from orchestrator.apiserver.admission.timing import Timing
from orchestrator.apiserver.health import Health
from orchestrator.apiserver.metrics import Inflight, Metrics
from orchestrator.apiserver.processmetrics import process_metrics
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.storemetrics import StoreMetrics
from orchestrator.apiserver.version import build_info
from tests.apiserver_fixture import ADMIN, serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, configmap, send


def samples(metrics: Metrics, name: str) -> dict[str, float]:
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith(name + "{")]
    return {line.rpartition(" ")[0].removeprefix(name): float(line.rpartition(" ")[2]) for line in lines}


async def test_requests_have_upstreams_labels() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        await call(served, "POST", f"{CONFIGMAPS}?dryRun=All", configmap("b"))
        await call(served, "PUT", f"{CONFIGMAPS}/a", configmap("a"))
        await call(served, "GET", f"{CONFIGMAPS}/a")
        await call(served, "GET", f"{CONFIGMAPS}/none")
        await call(served, "GET", CONFIGMAPS)
        await call(served, "GET", "/api/v1/configmaps")
        for content_type, force in (
            ("application/apply-patch+yaml", "&force=true"),
            ("application/merge-patch+json", ""),
        ):
            path = f"{CONFIGMAPS}/a?fieldManager=x{force}"
            assert (await call(served, "PATCH", path, configmap("a"), content_type=content_type))[0] == 200
        await call(served, "DELETE", f"{CONFIGMAPS}/a")
        await send(served, "GET", "/nothing")
        start = 'component="apiserver",dry_run="",group="",resource="configmaps"'
        dry = start.replace('dry_run=""', 'dry_run="All"')
        resource, namespace = 'scope="resource",subresource=""', 'scope="namespace",subresource=""'
        assert samples(served.server.metrics, "apiserver_request_total") == {
            f'{{code="201",{start},{resource},verb="POST",version="v1"}}': 1,
            f'{{code="201",{dry},{resource},verb="POST",version="v1"}}': 1,
            f'{{code="200",{start},{resource},verb="PUT",version="v1"}}': 1,
            f'{{code="200",{start},{resource},verb="GET",version="v1"}}': 1,
            f'{{code="404",{start},{resource},verb="GET",version="v1"}}': 1,
            f'{{code="200",{start},{namespace},verb="LIST",version="v1"}}': 1,
            f'{{code="200",{start},scope="cluster",subresource="",verb="LIST",version="v1"}}': 1,
            f'{{code="200",{start},{resource},verb="APPLY",version="v1"}}': 1,
            f'{{code="200",{start},{resource},verb="PATCH",version="v1"}}': 1,
            f'{{code="200",{start},{resource},verb="DELETE",version="v1"}}': 1,
            '{code="404",component="",dry_run="",group="",resource="",scope="",subresource="",verb="OTHER",'
            'version=""}': 1,
        }
        sizes = samples(served.server.metrics, "apiserver_response_sizes_count")
        assert sum(sizes.values()) == 4, "of reads alone"
        durations = samples(served.server.metrics, "apiserver_request_duration_seconds_count")
        assert sum(durations.values()) == 11


async def test_a_deprecated_api_that_is_asked_for_is_named() -> None:
    async with serving() as served:
        await call(served, "GET", "/api/v1/namespaces/default/endpoints")
        found = samples(served.server.metrics, "apiserver_requested_deprecated_apis")
        assert found == {'{group="",removed_release="",resource="endpoints",subresource="",version="v1"}': 1}


async def test_what_is_stored_and_watched_is_counted() -> None:
    async with serving() as served:
        for name in ("a", "b"):
            await call(served, "POST", CONFIGMAPS, configmap(name))
        watch = Request("GET", CONFIGMAPS, [("watch", "true"), ("resourceVersion", "0")])
        answer = await served.server.handle(watch)
        lines = list(StoreMetrics(served.server.core.cache, lambda: 4096).lines())
        for line in (
            'apiserver_storage_objects{resource="configmaps"} 2',
            'apiserver_resource_objects{group="",resource="configmaps"} 2',
            'apiserver_resource_objects{group="apps",resource="deployments"} 0',
            'apiserver_storage_events_received_total{group="",resource="configmaps"} 2',
            'apiserver_storage_size_bytes{storage_cluster_id="sqlite"} 4096',
            'apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="namespace",'
            'subresource="",verb="WATCH",version="v1"} 1',
        ):
            assert line in lines
        assert not isinstance(answer.body, bytes)


def test_the_most_at_once_is_that_of_the_last_second() -> None:
    clock = [0.0]
    inflight = Inflight(lambda: clock[0])
    for _ in range(3):
        inflight.began(clock[0])
    for _ in range(3):
        inflight.ended()
    assert inflight.high() == 3
    clock[0] = 1.5
    inflight.began(clock[0])
    assert inflight.high() == 3
    clock[0] = 2.8
    assert inflight.high() == 1
    inflight.ended()
    clock[0] = 9.0
    assert inflight.high() == 0


class Refusing:
    operations, resources = ("CREATE",), ("*",)

    async def validate(self, attributes: Attributes) -> None:
        raise Forbidden("no")


class ServiceAccountAdmission:
    operations, resources = ("CREATE",), ("*",)

    async def mutate(self, attributes: Attributes) -> None: ...


async def test_admission_is_timed_by_plugin_and_by_step() -> None:
    chain = Chain([ServiceAccountAdmission()], [Refusing()])
    attributes = Attributes(user=ADMIN, verb="create", resource="configmaps", row=CONFIGMAP_ROW, operation="CREATE")
    await chain.mutate(attributes)
    try:
        await chain.validate(attributes)
    except Forbidden:
        pass
    counts = [line for line in chain.timing.lines() if "_count{" in line]
    assert counts == [
        'apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="false",type="admit"} 1',
        'apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="true",'
        'type="validate"} 1',
        'apiserver_admission_controller_admission_duration_seconds_count{name="Refusing",operation="CREATE",'
        'rejected="true",type="validate"} 1',
        'apiserver_admission_controller_admission_duration_seconds_count{name="ServiceAccount",operation="CREATE",'
        'rejected="false",type="admit"} 1',
    ]
    assert not [line for line in Timing().lines() if line[0] != "#"]


def test_the_build_and_the_process_are_named() -> None:
    (line,) = [line for line in build_info() if line[0] != "#"]
    assert line.startswith('kubernetes_build_info{build_date="1970-01-01T00:00:00Z",compiler="cpython"')
    assert 'major="1",minor="36"' in line
    found: dict[str, Any] = {
        line.split()[0]: float(line.split()[1]) for line in process_metrics() if not line.startswith("#")
    }
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert 1.7e9 < found["process_start_time_seconds"] < 1e10
    assert found["process_open_fds"] > 2


async def test_health_checks_are_counted() -> None:
    async def body(answer: Response) -> list[str]:
        assert isinstance(answer.body, bytes)
        return [line for line in answer.body.decode().splitlines() if line[0] != "#"]

    health = Health(live={"ping": lambda: None}, ready={"start": lambda: "not yet"})
    for _ in range(2):
        await health.readyz(Request("GET", "/readyz"))
    assert await body(await health.metrics(Request("GET", "/metrics/slis"))) == [
        'kubernetes_healthcheck{name="ping",type="readyz"} 1',
        'kubernetes_healthcheck{name="start",type="readyz"} 0',
        'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 2',
        'kubernetes_healthchecks_total{name="start",status="error",type="readyz"} 2',
    ]
