"""Random sequences of requests about one object: a case as `tests/exchange.py` has it. The same seed makes the same."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from orchestrator.api import schema
from orchestrator.api.custom import resources_of
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import ANY_TYPE, Type
from tests.differential.mutations import Mutator
from tests.differential.words import Words
from tests.exchange import DEFINITIONS, MERGE_PATCH, Case, Step

BODIES = Path(__file__).parent / "bodies.yaml"
JSON_PATCH, STRATEGIC = "application/json-patch+json", "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
CHANGED_MEANWHILE = ("APIService", "FlowSchema")  # the server itself writes their status, in its own time
OPTIONS: dict[str, list[Any]] = yaml.safe_load((Path(__file__).parent / "options.yaml").read_text())


def load_bodies() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(BODIES.read_text()))


def load_resources() -> ResourceTable:
    table = ResourceTable()
    for definition in yaml.safe_load_all(DEFINITIONS.read_text()):
        definition["status"] = {"acceptedNames": definition["spec"]["names"]}
        for row in resources_of(definition):
            table.add(row)
    return table


class Generator:
    def __init__(self, seed: int, kinds: tuple[str, ...] = ()) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.bodies = [body for body in load_bodies() if not kinds or body["kind"] in kinds]
        self.resources = load_resources()
        self.mutator = Mutator(self.rng, Words(load_bodies()))

    def case(self, number: int) -> Case:
        self.rng.seed(f"{self.seed}/{number}")
        body = copy.deepcopy(self.rng.choice(self.bodies))
        resource = self.resources.by_kind(body["apiVersion"], body["kind"])
        assert resource is not None, body
        about = _Subject(self.rng, self.mutator, resource, body)
        scenarios = [about.creates] * 4 + [about.updates] * 5 + [about.applies] * 2 + [about.reads, about.deletes]
        if "update" not in resource.verbs or resource.kind in CHANGED_MEANWHILE:
            scenarios = [about.creates]
        steps = self.rng.choice(scenarios)()
        return {"name": f"{self.seed}/{number} {resource.kind}", "whole": True, "every": True, "steps": steps}


class _Subject:
    """What can be asked about one object."""

    def __init__(self, rng: random.Random, mutator: Mutator, resource: Resource, body: dict[str, Any]) -> None:
        self.rng, self.mutator, self.resource, self.body = rng, mutator, resource, body
        namespace = "case" if resource.namespaced else ""
        self.collection = resource.path(namespace)
        self.name = (body.get("metadata") or {}).get("name", "")
        self.path = resource.path(namespace, self.name)
        self.kind: Type = schema.type_of(resource) or ANY_TYPE

    # -- scenarios -----------------------------------------------------------------------------------------------------

    def creates(self) -> list[Step]:
        return [self._create(self._changed(self.body, (1, 1, 1, 2, 3)))]

    def updates(self) -> list[Step]:
        if self.resource.kind == "CustomResourceDefinition":
            return [*self._established(), self._update()]
        steps = [self._create(self._changed(self.body, (0, 0, 0, 0, 1)), plain=True)]
        steps += [self._update() for _ in range(self.rng.choice((1, 1, 2)))]
        return [*steps, {"method": "GET", "path": self.path}] if self.rng.random() < 0.3 else steps

    def applies(self) -> list[Step]:
        steps: list[Step] = []
        for _ in range(1 if self.resource.kind == "CustomResourceDefinition" else self.rng.choice((2, 2, 3))):
            if self.rng.random() < 0.2:
                steps.append(self._update())
            else:
                steps.append(self._apply(self._part(self._changed(self.body, (0, 0, 1, 1, 2)))))
        return steps

    def reads(self) -> list[Step]:
        second = copy.deepcopy(self.body)
        second.setdefault("metadata", {})["labels"] = {"app": "b"}
        if self.resource.kind not in ("IPAddress", "CSIDriver", "CustomResourceDefinition", "APIService", "Service"):
            second["metadata"]["name"] = "e"
        steps = [self._create(self.body, plain=True), self._create(second, plain=True)]
        for _ in range(self.rng.choice((1, 2, 3))):
            query = self.rng.choice(OPTIONS["list"])
            if not self.resource.namespaced and "Selector=app" not in query:  # not what others have made
                query = "labelSelector=app&" + "&".join(part for part in query.split("&") if "Selector" not in part)
            accept = self.rng.choice(("application/json", "application/json", TABLE, PARTIAL_LIST, "text/html"))
            steps.append({"method": "GET", "path": f"{self.collection}?{_escaped(query)}", "accept": accept})
        accept = self.rng.choice((TABLE, PARTIAL, "application/json", "application/yaml;q=0.1,application/json"))
        return [*steps, {"method": "GET", "path": self.path, "accept": accept}]

    def deletes(self) -> list[Step]:
        body = copy.deepcopy(self.body)
        if self.rng.random() < 0.3:
            body["metadata"]["finalizers"] = ["a.b/c"]
        steps = [self._create(body, plain=True)]
        if self.resource.kind == "CustomResourceDefinition":
            return self._established()
        for _ in range(self.rng.choice((1, 2))):
            options = self.rng.choice(OPTIONS["delete"])
            path = self.path
            if self.rng.random() < 0.2 and "deletecollection" in self.resource.verbs:
                path = (
                    f"{self.collection}?{self.rng.choice(('fieldSelector=metadata.name%3Dd', 'labelSelector=app%3Da'))}"
                )
            steps.append({"method": "DELETE", "path": path} | ({"body": options} if options is not None else {}))
        return [*steps, {"method": "GET", "path": self.path}]

    def _established(self) -> list[Step]:
        return [self._create(self.body, plain=True), {"method": "GET", "path": self.path, "until": "Established"}]

    # -- requests ------------------------------------------------------------------------------------------------------

    def _changed(self, body: dict[str, Any], times: tuple[int, ...]) -> dict[str, Any]:
        return self.mutator.mutated(body, self.kind, self.rng.choice(times))

    def _options(self, share: float = 0.35) -> str:
        return f"?{self.rng.choice(OPTIONS['write'])}" if self.rng.random() < share else ""

    def _create(self, body: dict[str, Any], plain: bool = False) -> Step:
        step: Step = {"method": "POST", "path": self.collection + ("" if plain else self._options())}
        if not plain and self.rng.random() < 0.04:
            return step | {"text": _with_duplicate(self.rng, body)}
        return step | {"body": body}

    def _update(self) -> Step:
        subresource = self._subresource()
        path = f"{self.path}/{subresource}" if subresource else self.path
        if subresource == "scale":
            body: dict[str, Any] = {
                "metadata": {"name": self.name},
                "spec": {"replicas": self.rng.choice((0, 3, -1, "x"))},
            }
            changed = body
        else:
            body = self.body
            changed = self._changed(self._with_status(body) if subresource else body, (0, 1, 1, 2))
        match self.rng.choice(("PUT", "PUT", "json", "merge", "merge", "strategic", "strategic")):
            case "PUT":
                changed = copy.deepcopy(changed)
                if self.rng.random() < 0.6 and isinstance(changed.get("metadata"), dict):
                    changed["metadata"]["resourceVersion"] = "@resourceVersion"
                return {"method": "PUT", "path": path + self._options(), "body": changed}
            case "json":
                patch = self._json_patch(body)
                return {"method": "PATCH", "path": path + self._options(), "type": JSON_PATCH, "body": patch}
            case name:
                patch = difference(body, changed)
                if name == "strategic" and self.rng.random() < 0.3:
                    self._directive(patch)
                media = MERGE_PATCH if name == "merge" else STRATEGIC
                return {"method": "PATCH", "path": path + self._options(), "type": media, "body": patch}

    def _subresource(self) -> str:
        names = [
            sub.name for sub in self.resource.subresources if sub.name in ("status", "scale", "approval", "resize")
        ]
        return self.rng.choice(names) if names and self.rng.random() < 0.3 else ""

    def _with_status(self, body: dict[str, Any]) -> dict[str, Any]:
        status = self.kind.fields.get("status")
        return body | {"status": self.mutator.value(status.type, "status")} if status else body

    def _apply(self, body: dict[str, Any]) -> Step:
        manager = self.rng.choice(("one", "two", "three"))
        force = self.rng.choice(("", "", "&force=true"))
        sub = self._subresource()
        path = f"{self.path}/{sub}" if sub == "status" else self.path
        if sub == "status":
            body = self._with_status(body)
        return {"method": "PATCH", "path": f"{path}?fieldManager={manager}{force}", "type": APPLY, "body": body}

    def _part(self, body: dict[str, Any]) -> dict[str, Any]:
        """A part of the object: what one of several managers would apply."""
        if self.rng.random() < 0.5 or not isinstance(body.get("spec"), dict):
            return body
        kept = {key: value for key, value in body["spec"].items() if self.rng.random() < 0.6}
        return body | {"spec": kept}

    def _json_patch(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        pointers = list(_pointers(body))
        patch = []
        for _ in range(self.rng.choice((1, 1, 2))):
            op = self.rng.choice(("add", "add", "remove", "replace", "replace", "test", "move", "copy", "x"))
            pointer = self.rng.choice((*pointers, "/spec/none", "/spec/none/deeper", "/metadata/labels/x", "x", ""))
            entry: dict[str, Any] = {"op": op, "path": pointer}
            if op in ("add", "replace", "test"):
                entry["value"] = self.rng.choice((None, 1, "x", [], {}, "", True, -1))
            if op in ("move", "copy"):
                entry["from"] = self.rng.choice(pointers)
            patch.append(entry)
        return patch

    def _directive(self, patch: dict[str, Any]) -> None:
        target = patch.setdefault("spec", {}) if self.rng.random() < 0.7 else patch.setdefault("metadata", {})
        if isinstance(target, dict):
            name, value = self.rng.choice(
                (("$patch", "replace"), ("$patch", "delete"), ("$patch", "x"), ("$retainKeys", ["type"]),
                 ("$setElementOrder/finalizers", ["a.b/c"]), ("$deleteFromPrimitiveList/finalizers", ["a.b/c"]))
            )  # fmt: skip
            target[name] = value


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one to the other; lists whole."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    patch = {key: None for key in old if key not in new}
    return patch | {key: difference(old.get(key), value) for key, value in new.items() if old.get(key) != value}


def _pointers(value: Any, at: str = "") -> list[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in items:
        pointer = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        found += [pointer, *_pointers(item, pointer)]
    return found


def _with_duplicate(rng: random.Random, body: dict[str, Any]) -> str:
    """The body's text with one key twice."""
    text = json.dumps(body)
    key = rng.choice([key for key in body if key not in ("apiVersion", "kind")] or ["kind"])
    return text.replace(f'"{key}":', f'"{key}": {json.dumps(body[key])}, "{key}":', 1)


def _escaped(query: str) -> str:
    return "&".join(
        f"{name}={quote(value, safe='@')}"
        for name, _, value in (part.partition("=") for part in query.split("&") if part)
    )
