"""Random requests: a step of the recorded cases, an object by its schema or one that the server gave, then made wrong.

Requests that would make the server call someone else are kept from having that effect: webhooks and API services are
only ever created with `dryRun=All`, and the subresources that connect to a node name pods that are not there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, unquote

from orchestrator.api import schema
from orchestrator.api.resources import ROWS
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver import request as requests
from tests.apiserver_fixture import ADMIN
from tests.fuzz import inputs

CASES = Path(__file__).parents[1] / "unit" / "api" / "cases"
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH, APPLY_PATCH = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
CONNECTING = ("attach", "exec", "log", "portforward", "proxy")
CALLED_OUT_TO = ("apiservices", "mutatingwebhookconfigurations", "validatingwebhookconfigurations")
DEFINITIONS = "customresourcedefinitions"  # may name a conversion webhook
KEPT_MAX = 400

ACCEPTS = (
    "*/*", JSON, YAML, PROTOBUF, f"{PROTOBUF},{JSON}", "application/json;as=Table;v=v1;g=meta.k8s.io", "text/html",
    "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
    "application/json;q=x,*/*;q=0", ";;=,;q", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/yaml;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", "application/json;stream=watch",
    "a" * 9000, "application/vnd.kubernetes.protobuf;stream=watch", "application/json;as=Table;v=v9;g=x",
)  # fmt: skip
CONTENT_TYPES = (
    *PATCHES,
    JSON,
    YAML,
    PROTOBUF,
    "",
    "text/yaml",
    "application/json; charset=utf-16",
    ";",
    "application/x-www-form-urlencoded",
)
QUERY_NAMES = (
    "watch", "limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector", "fieldSelector",
    "timeoutSeconds", "allowWatchBookmarks", "sendInitialEvents", "dryRun", "fieldManager", "fieldValidation",
    "force", "pretty", "includeObject", "gracePeriodSeconds", "propagationPolicy", "orphanDependents",
    "preconditions", "shardSelector", "verbose", "timeout", "exclude",
)  # fmt: skip
QUERY_VALUES = (
    "", "0", "1", "-1", "true", "false", "All", "Strict", "Warn", "Ignore", "Exact", "NotOlderThan", "Object", "None",
    "Background", "Orphan", "Foreground", "9223372036854775807", "9223372036854775808", "1e9", "x", "٣", "²", "a=b",
    "a==b,!c,d in (e,f),g notin (h)", "a in ()", "a in (", "!", "!!a", "a=b=c", "a>1,b<2", ",", "(",
    "metadata.name=a", "metadata.name!=a,metadata.namespace=", "spec.nodeName=n", "status.phase=Running",
    "metadata.name=a\\,b", "\\", "involvedObject.name=a", "10s",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "e30", "W10",
    "!!!!", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LCJzdGFydCI6ImEifQ",
    "eyJ2IjpbXSwicnYiOnt9LCJzdGFydCI6W119", "x" * 5000,
)  # fmt: skip
PLAIN_PATHS = (
    "/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/healthz", "/readyz/ping",
    "/livez/x", "/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/.well-known/openid-configuration",
    "/openid/v1/jwks", "/logs", "/api/v1/watch/pods", "/api/v1/proxy/nodes/x",
)  # fmt: skip
TOKENS = (
    "", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30.",
    "Bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "Bearer abcdef.0123456789abcdef",
    "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6W119.W10.AA", "Basic YTpi", "Basic !!", "bearer " + "x" * 9000, "Negotiate x",
    "Bearer é.é.é", "Bearer ...", "Bearer eyJhbGciOjF9.eyJleHAiOiJ4IiwiaXNzIjpbXX0.AA", "Bearer W10.W10.W10",
    "Bearer bnVsbA.bnVsbA.bnVsbA",
)  # fmt: skip
IDENTITIES = (
    Identity("system:node:n1", ("system:nodes", "system:authenticated")), Identity("nobody", ("system:authenticated",)),
    Identity(
        "system:serviceaccount:default:default", ("system:serviceaccounts", "system:authenticated"), "x",
        {"authentication.kubernetes.io/pod-name": ("p",)},
    ),
)  # fmt: skip


class Requests:
    """An endless source. `remember` takes what the server answered, so that later inputs build on it."""

    def __init__(self, random: Random, namespace: str) -> None:
        self._random = random
        self.namespace = namespace
        self.rows = list(ROWS)
        self._steps = list(recorded())
        self._bodies = [step["body"] for step in self._steps if isinstance(step.get("body"), (dict, list))]
        self._known: list[tuple[str, dict[str, Any]]] = []  # (path, object) as the server gave them
        self._tokens: list[str] = []

    def next(self) -> Request:
        while True:
            request = self._whole()
            if self._is_harmless(request):
                return request

    def remember(self, request: Request, answer: Any) -> None:
        if not isinstance(answer, dict):
            return
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict):
            return
        if token := metadata.get("continue"):
            self._tokens = [*self._tokens[-20:], token]
        name = metadata.get("name")
        if not isinstance(name, str) or "uid" not in metadata:
            return
        path = request.path if request.method != "POST" else f"{request.path}/{name}"
        if len(self._known) >= KEPT_MAX:
            self._known.pop(self._random.randrange(KEPT_MAX))
        self._known.append((path, answer))

    def forget(self) -> None:
        self._known.clear()

    # -- whole requests ------------------------------------------------------------------------------------------------

    def _whole(self) -> Request:
        random = self._random
        kind = random.randrange(20)
        if kind < 6:
            request = self._recorded_step()
        elif kind < 9:
            request = self._by_schema()
        elif kind < 16 and self._known:
            request = self._of_known()
        elif kind < 19:
            request = self._read()
        else:
            path = random.choice(PLAIN_PATHS)
            request = Request(random.choice(("GET", "HEAD", "POST", "OPTIONS", "DELETE")), path)
        self._headers(request)
        if random.random() < 0.15:
            request.query = [*request.query, *self._query()]
        if random.random() < 0.04:
            request.path = self._odd_path(request.path)
        if random.random() < 0.02:
            request.method = random.choice(
                ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "X", "get", "")
            )
        return request

    def _recorded_step(self) -> Request:
        random = self._random
        step = random.choice(self._steps)
        path, _, query = step["path"].partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        if random.random() < 0.7:
            pairs = [pair for pair in pairs if pair[0] != "dryRun"]
        request = Request(step["method"], self._placed(unquote(path)), pairs, {"content-type": step.get("type", JSON)})
        if "body" in step:
            self._fill(request, step["body"])
        else:
            request.body = step.get("text", "").encode()
        return request

    def _by_schema(self) -> Request:
        random = self._random
        row = random.choice(self.rows)
        kind = schema.type_of(row)
        body = inputs.object_of(random, kind) if kind is not None else {}
        if not isinstance(body.get("metadata"), dict) or random.random() < 0.8:
            body["metadata"] = {"name": random.choice(inputs.NAMES)}
        if random.random() < 0.5:
            body |= {"apiVersion": row.api_version, "kind": row.kind}
        else:
            body.pop("apiVersion", None), body.pop("kind", None)
        namespace = self.namespace if row.namespaced else ""
        if random.random() < 0.15:
            data = inputs.protobuf(random, row.api_version, row.kind)
            return Request("POST", row.path(namespace), [], {"content-type": PROTOBUF}, data)
        if random.random() < 0.7:
            request = Request("POST", row.path(namespace), [], {"content-type": JSON})
        else:
            query = [("fieldManager", "f")]
            name = random.choice(inputs.NAMES)
            request = Request("PATCH", row.path(namespace, name), query, {"content-type": APPLY_PATCH})
        self._fill(request, body, wrong=0.2)
        return request

    def _of_known(self) -> Request:
        """A write or a read of an object that was there, with what it may be changed to."""
        random = self._random
        path, obj = random.choice(self._known)
        subresource = random.choice(
            (*[""] * 8, "/status", "/scale", *(f"/{name}" for name in self._subresources(path)))
        )
        method = random.choice(("PUT", "PUT", "PATCH", "PATCH", "PATCH", "PATCH", "GET", "DELETE", "POST"))
        request = Request(method, path + subresource, [], {"content-type": JSON})
        if method == "PUT" or method == "POST":
            self._fill(request, obj)
        elif method == "PATCH":
            self._patch(request, obj)
        elif method == "DELETE" and random.random() < 0.5:
            body = {
                "gracePeriodSeconds": random.choice((0, -1, 5, None, "x")),
                "propagationPolicy": inputs.text(random),
                "preconditions": {"uid": "x"},
            }
            self._fill(request, {key: value for key, value in body.items() if random.random() < 0.4})
        return request

    def _read(self) -> Request:
        random = self._random
        row = random.choice(self.rows)
        namespace = random.choice(("", self.namespace, "default", *inputs.ODD_NAMES[:6])) if row.namespaced else ""
        name = random.choice((*[""] * 12, "a", "web", *inputs.ODD_NAMES))
        method = "DELETE" if random.random() < 0.05 and namespace == self.namespace else "GET"
        return Request(method, row.path(namespace, name), self._query() if random.random() < 0.7 else [])

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _subresources(self, path: str) -> list[str]:
        info = requests.parse("GET", path, [])
        return [sub.name for row in self.rows if row.plural == info.resource for sub in row.subresources]

    def _fill(self, request: Request, body: Any, wrong: float = 0.8) -> None:
        """The body, mostly with something wrong, in some encoding."""
        random = self._random
        if random.random() < wrong:
            body = inputs.mutated(random, body, self._bodies)
        kind, choice = request.headers.get("content-type", ""), random.random()
        if choice < 0.03:
            request.body = random.choice(inputs.NASTY_JSON)
        elif kind.endswith("yaml") or choice < 0.15:
            if not kind.endswith("yaml") and kind in (JSON, ""):
                request.headers["content-type"] = YAML
            request.body = random.choice(inputs.NASTY_YAML) if random.random() < 0.15 else inputs.to_yaml(body)
        else:
            request.body = inputs.to_json(body)
        if random.random() < 0.05:
            request.body = inputs.damaged(random, request.body)

    def _patch(self, request: Request, obj: dict[str, Any]) -> None:
        random = self._random
        kind = request.headers["content-type"] = random.choice(PATCHES)
        body: Any
        if kind == JSON_PATCH:
            body = [self._operation(obj) for _ in range(random.choice((0, 1, 1, 2, 5)))]
        elif kind == APPLY_PATCH:
            body = copy.deepcopy(obj)
            for name in ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation"):
                if random.random() < 0.95:
                    body["metadata"].pop(name, None)
            request.query.append(("fieldManager", random.choice(("f", "g", "", "x" * 200))))
            if random.random() < 0.5:
                request.query.append(("force", random.choice(("true", "false", "x"))))
        else:
            body = {key: value for key, value in obj.items() if random.random() < 0.5}
            body = inputs.mutated(random, body, self._bodies) if body else {}
            if kind == STRATEGIC_PATCH and isinstance(body, dict):
                self._directives(body)
        self._fill(request, body, wrong=0.5)

    def _operation(self, obj: dict[str, Any]) -> dict[str, Any]:
        random = self._random
        steps, place = [""], obj
        while isinstance(place, (dict, list)) and place and random.random() < 0.8:
            key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
            steps.append(str(key).replace("~", "~0").replace("/", "~1"))
            place = place[key]  # type: ignore[index]
        if random.random() < 0.2:
            steps.append(random.choice(("-", "0", "-1", "99", "x", "", "~", "~2", "٣", "1_0", " 1", "+1", "9" * 5000)))
        path = "/".join(steps)
        operation = {"op": random.choice(("add", "remove", "replace", "move", "copy", "test", "x")), "path": path}
        if random.random() < 0.8:
            operation["value"] = inputs.anything(random) if random.random() < 0.7 else random.choice(self._bodies)
        if random.random() < 0.5:
            operation["from"] = random.choice(
                (path, "/metadata", "/spec", "", "/", "x", "/spec/template/spec/containers/0")
            )
        return operation

    def _directives(self, body: dict[str, Any]) -> None:
        """Puts strategic merge directives in, right and wrong ones."""
        random = self._random
        holders = [holder for holder in inputs._holders(body) if isinstance(holder, dict)] or [body]
        for _ in range(random.randrange(1, 4)):
            holder = random.choice(holders)
            field = random.choice([*holder, "finalizers", "containers", "x"])
            directive = random.choice(
                ("$patch", "$retainKeys", f"$setElementOrder/{field}", f"$deleteFromPrimitiveList/{field}", "$x")
            )
            values = ("delete", "replace", "merge", "x", [], ["a"], [field], [{"name": "c"}], [{}], [None], {}, None, 1)
            holder[directive] = random.choice(values)

    def _query(self) -> list[tuple[str, str]]:
        random = self._random
        values = (*QUERY_VALUES, *self._tokens)
        pairs = []
        for _ in range(random.randrange(1, 5)):
            value = random.choice(values)
            if random.random() < 0.1:
                value = inputs.mutated_text(random, value)
            pairs.append((random.choice(QUERY_NAMES), value))
        return pairs

    def _headers(self, request: Request) -> None:
        random = self._random
        headers = request.headers
        request.identity = ADMIN if random.random() < 0.93 else random.choice(IDENTITIES)
        if random.random() < 0.15:
            headers["accept"] = random.choice(ACCEPTS)
        if random.random() < 0.04:
            headers["content-type"] = random.choice(CONTENT_TYPES)
        if random.random() < 0.03:
            request.identity = None
            headers["authorization"] = random.choice(TOKENS)
        if random.random() < 0.02:
            headers["impersonate-user"] = random.choice(
                ("", "x", "system:node:n1", "system:serviceaccount:a", "system:serviceaccount:a:b:c")
            )
            headers["impersonate-group"] = random.choice(("", "a,b", ",", "system:masters"))
            headers["impersonate-uid"] = "u"
            headers["impersonate-extra-" + random.choice(("", "a%zz", "a%2fb", "é"))] = "v"
        if random.random() < 0.02:
            headers["x-remote-user"], headers["if-none-match"], headers["accept-encoding"] = "x", '"y', "gzip;q=x"
            headers["user-agent"] = random.choice(("", "é/1", "x" * 5000, "/", "\x7f"))

    def _odd_path(self, path: str) -> str:
        random = self._random
        segments = path.split("/")
        place = random.randrange(len(segments))
        match random.randrange(4):
            case 0:
                segments[place] = random.choice(inputs.ODD_NAMES)
            case 1:
                segments.insert(place, random.choice((*inputs.ODD_NAMES, "watch", "namespaces", "status")))
            case 2:
                segments.append(
                    random.choice((*inputs.ODD_NAMES, "status", "scale", "x/y/z", "token", "eviction", "binding"))
                )
            case _:
                del segments[place]
        return "/".join(segments)

    def _placed(self, path: str) -> str:
        """A recorded path, in this run's namespace."""
        return path.replace("/namespaces/case/", f"/namespaces/{self.namespace}/")

    def _is_harmless(self, request: Request) -> bool:
        info = requests.parse(request.method, request.path, request.query)
        if info.subresource in CONNECTING or "proxy" in request.path.split("/"):
            parts = request.path.split("/")
            request.path = "/".join("absent" if part == info.name and part else part for part in parts)
        if info.resource == "namespaces" and request.method == "DELETE":
            return False  # nobody would finish it here, and nothing else could be created
        writes = request.method not in ("GET", "HEAD", "DELETE")
        text = request.body
        if writes and (info.resource in CALLED_OUT_TO or (info.resource == DEFINITIONS and b"ebhook" in text)):
            request.query = [*(pair for pair in request.query if pair[0] != "dryRun"), ("dryRun", "All")]
        return True


def recorded() -> Iterable[dict[str, Any]]:
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text()):
            yield from case["steps"]


def shown(request: Request, limit: int = 3000) -> str:
    """The request as text that makes it again."""
    who = request.identity.name if request.identity else None
    rest = f"headers={request.headers!r} as={who!r} body={request.body[:limit]!r}"
    return f"{request.method} {request.path[:500]!r} query={request.query!r} {rest}"
