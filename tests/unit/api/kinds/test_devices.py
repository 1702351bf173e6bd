"""Dynamic resource allocation: what kube-apiserver v1.36.3 says of claims, classes and slices."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.kinds import devices
from orchestrator.api.kinds.device_allocation import claim_status, forget_released
from orchestrator.api.kinds.device_slices import drop_disabled
from orchestrator.api.status import Cause

Json = dict[str, Any]

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
IDENTIFIER = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
)
REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
ONE_KIND = "exactly one of `exactly` or `firstAvailable` is required"
ONE_ATTRIBUTE = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
PLACES = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
OWN_PLACES = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
NO_OWN_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)


def lines(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


def exactly(**fields: Any) -> Json:
    return {"name": "r", "exactly": {"deviceClassName": "c", **fields}}


def claim(*requests: Json, **fields: Any) -> Json:
    made: Json = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests), **fields}}}
    devices.default_claim(made)
    return made


BOTH = {"name": "q", "firstAvailable": [{"name": "s", "deviceClassName": "c"}]}
OPAQUE = {"driver": "d.example.com", "parameters": {"a": 1}}


@pytest.mark.parametrize(
    ("obj", "faults"),
    [
        pytest.param(claim(exactly(), BOTH), [], id="valid"),
        pytest.param(claim({"name": "r"}), [f"requests[0]: Required value: {ONE_KIND}"], id="of-no-kind"),
        pytest.param(
            claim({**exactly(), "firstAvailable": BOTH["firstAvailable"]}),
            [f"requests[0]: Invalid value: null: {ONE_KIND}, but multiple fields are set"], id="of-both-kinds",
        ),
        pytest.param(
            claim({**exactly(), "name": ""}), [f'requests[0].name: Invalid value: "": {LABEL}'], id="no-name",
        ),
        pytest.param(claim(exactly(), exactly()), ['requests[1]: Duplicate value: "r"'], id="same-name"),
        pytest.param(
            claim(exactly(deviceClassName="")), ["requests[0].exactly.deviceClassName: Required value"], id="no-class",
        ),
        pytest.param(
            claim(exactly(allocationMode="All", count=2)),
            ["requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"],
            id="count-of-all",
        ),
        pytest.param(
            claim(exactly(count=-1)),
            ["requests[0].exactly.count: Invalid value: -1: must be greater than zero"], id="negative-count",
        ),
        pytest.param(
            claim(exactly(allocationMode="Some")),
            ['requests[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"'],
            id="unknown-mode",
        ),
        pytest.param(
            claim(exactly(tolerations=[{"operator": "Exists", "value": "v"}, {"operator": "In", "effect": "Never"}])),
            ['requests[0].exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`',
             'requests[0].exactly.tolerations[1].operator: Unsupported value: "In": '
             'supported values: "Equal", "Exists"',
             'requests[0].exactly.tolerations[1].effect: Unsupported value: "Never": '
             'supported values: "NoExecute", "NoSchedule", "None"'],
            id="tolerations",
        ),
        pytest.param(
            claim({"name": "q", "firstAvailable": [{"name": "s", "deviceClassName": "c"}] * 9}),
            ["requests[0].firstAvailable: Too many: 9: must have at most 8 items"], id="many-alternatives",
        ),
        pytest.param(
            claim(*[exactly()] * 33), ["requests: Too many: 33: must have at most 32 items"], id="many-requests",
        ),
        pytest.param(
            claim(BOTH, constraints=[{"requests": ["q/s", "q/t", "x", "a/b/c"], "matchAttribute": "d/a"}]),
            [f'constraints[0].requests[{index}]: Invalid value: "{name}": {REFERENCE}'
             for index, name in ((1, "q/t"), (2, "x"), (3, "a/b/c"))],
            id="references-to-nothing",
        ),
        pytest.param(
            claim(constraints=[{}, {"matchAttribute": "a"}, {"distinctAttribute": "/a"}, {"matchAttribute": "d/1"}]),
            [f"constraints[0]: Required value: {ONE_ATTRIBUTE}",
             'constraints[1].matchAttribute: Invalid value: "a": '
             "a fully qualified name must be a domain and a name separated by a slash",
             'constraints[2].distinctAttribute: Invalid value: "": the domain must not be empty',
             f'constraints[3].matchAttribute: Invalid value: "1": {IDENTIFIER}'],
            id="constraints",
        ),
        pytest.param(
            claim(exactly(), config=[
                {}, {"opaque": {"parameters": [1]}}, {"opaque": {**OPAQUE, "parameters": None}},
                {"requests": ["r", "r"], "opaque": OPAQUE}, {"opaque": {**OPAQUE, "parameters": {"a": "x" * 10240}}},
            ]),
            ["config[0].opaque: Required value", "config[1].opaque.driver: Required value",
             'config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object',
             "config[2].opaque.parameters: Required value", 'config[3].requests[1]: Duplicate value: "r"',
             "config[4].opaque.parameters: Too long: may not be more than 10240 bytes"],
            id="configuration",
        ),
    ],
)  # fmt: skip
def test_claim(obj: Json, faults: list[str]) -> None:
    assert lines(devices.claim(obj)) == [f"spec.devices.{fault}" for fault in faults]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("device.driver == 'd.example.com'", None),
        ("device.attributes['d'].flag", None),
        ("device.attributes['d'].version.isGreaterThan(semver('1.0.0'))", None),
        ("device.capacity['d'].memory.isGreaterThan(quantity('1Gi'))", None),
        ("cel.bind(d, device.attributes['d'], d.one && d.two > 1)", None),
        ("1", "must evaluate to bool or the unknown type, not int"),
        ("device.attributes", "must evaluate to bool or the unknown type, not map(string, map(string, any))"),
        ("device", "must evaluate to bool or the unknown type, not kubernetes.DRADevice"),
        ("device.size > 1",
         "compilation failed: ERROR: <input>:1:7: undefined field 'size'\n | device.size > 1\n | ......^"),
        ("wrong",
         "compilation failed: ERROR: <input>:1:1: undeclared reference to 'wrong' (in container '')\n | wrong\n | ^"),
    ],
)  # fmt: skip
def test_selector(expression: str, complaint: str | None) -> None:
    found = devices.device_class({"spec": {"selectors": [{"cel": {"expression": expression}}]}})
    wanted = [f'spec.selectors[0].cel.expression: Invalid value: "{expression}": {complaint}'] if complaint else []
    assert lines(found) == wanted


def test_selectors_need_an_expression_of_limited_length() -> None:
    spec = {"selectors": [{}, {"cel": {"expression": "x" * 10241}}]}
    assert lines(devices.device_class({"spec": spec})) == [
        "spec.selectors[0].cel: Required value",
        "spec.selectors[1].cel.expression: Too long: may not be more than 10240 bytes",
    ]
    many = {"selectors": [{"cel": {"expression": "true"}}] * 33}
    assert lines(devices.device_class({"spec": many})) == ["spec.selectors: Too many: 33: must have at most 32 items"]


def test_a_selector_has_a_limited_cost() -> None:
    numbers = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    expression = "int('1'.find('[0-9]*')) < 100 && device.attributes.exists(d, d == 'x')"
    for name in ("a", "b", "c", "d", "e", "f"):
        expression = f"{numbers}.all({name}, {expression})"
    found = devices.device_class({"spec": {"selectors": [{"cel": {"expression": expression}}]}})
    assert lines(found) == ["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"]


def test_configuration_of_a_class_that_is_stored_may_be_long() -> None:
    obj = {"spec": {"config": [{"opaque": {**OPAQUE, "parameters": {"a": "x" * 10240}}}]}}
    assert lines(devices.device_class(obj)) == [
        "spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"
    ]
    assert devices.device_class(obj, obj) == []


def test_extended_resource_name() -> None:
    assert devices.device_class({"spec": {"extendedResourceName": "example.com/gpu"}}) == []
    assert lines(devices.device_class({"spec": {"extendedResourceName": "gpu"}})) == [
        'spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name'
    ]


def test_the_spec_of_a_claim_never_changes() -> None:
    old, new = claim(), claim(exactly())
    assert devices.claim_update(old, {"spec": {"devices": {}}}) == []
    assert lines(devices.claim_update(new, old)) == [
        'spec: Invalid value: {"Devices":{"Requests":[{"Name":"r","Exactly":{"DeviceClassName":"c","Selectors":null,'
        '"AllocationMode":"ExactCount","Count":1,"AdminAccess":null,"Tolerations":null,"Capacity":null},'
        '"FirstAvailable":null}],"Constraints":null,"Config":null}}: field is immutable'
    ]


def test_values_of_a_spec_are_shown_with_escapes() -> None:
    new = claim(config=[{"opaque": {"driver": "d", "parameters": {"a": "<&>"}}}])
    assert '"Parameters":{"a":"\\u003c\\u0026\\u003e"}' in lines(devices.claim_update(new, claim()))[0]


def test_a_template_asks_for_labels_and_annotations_alone() -> None:
    made = {"spec": {"metadata": {"labels": {"a": "b"}, "name": "x", "uid": "u"}, "spec": claim(exactly())["spec"]}}
    assert lines(devices.template(made)) == [
        "spec.metadata.name: Forbidden: cannot be set", "spec.metadata.uID: Forbidden: cannot be set",
    ]  # fmt: skip
    assert devices.template_update(made, made) == devices.template(made)


# -- slices ------------------------------------------------------------------------------------------------------------

POOL = {"name": "p", "generation": 1, "resourceSliceCount": 1}


def slice_of(*found: Json, **fields: Any) -> Json:
    spec = {"driver": "d.example.com", "pool": POOL, "nodeName": "n", "devices": list(found), **fields}
    made = {"metadata": {"name": "s"}, "spec": {name: value for name, value in spec.items() if value is not None}}
    drop_disabled(made)
    return made


def device(**fields: Any) -> Json:
    return {"name": "a", **fields}


def shared(policy: Json, value: str = "10Gi") -> Json:
    return device(allowMultipleAllocations=True, capacity={"m": {"value": value, "requestPolicy": policy}})


TERM = {"matchExpressions": [{"key": "k", "operator": "Exists"}]}
SHOWN_TERM = '{"MatchExpressions":[{"Key":"k","Operator":"Exists","Values":null}],"MatchFields":null}'
RANGE = {"min": "1Gi", "max": "4Gi", "step": "2Gi"}


@pytest.mark.parametrize(
    ("obj", "faults"),
    [
        pytest.param(slice_of(device(attributes={"a": {"int": 0}, "d/b": {"bool": False}})), [], id="valid"),
        pytest.param(slice_of(nodeName=None), [f": Required value: {PLACES}"], id="nowhere"),
        pytest.param(
            slice_of(allNodes=True),
            [f': Invalid value: "{{`nodeName`, `allNodes`}}": {PLACES}, but multiple fields are set'], id="twice",
        ),
        pytest.param(
            slice_of(nodeName="", allNodes=False, perDeviceNodeSelection=True),
            ['.nodeName: Invalid value: "": must be either unset or set to a non-empty string',
             ".allNodes: Invalid value: false: must be either unset or set to true"],
            id="neither-set-nor-unset",
        ),
        pytest.param(
            slice_of(nodeName=None, nodeSelector={"nodeSelectorTerms": [TERM, TERM]}),
            [f".nodeSelector.nodeSelectorTerms: Invalid value: [{SHOWN_TERM},{SHOWN_TERM}]: "
             "must have exactly one node selector term"],
            id="two-terms",
        ),
        pytest.param(
            slice_of(pool={"name": "a//b", "generation": -1}),
            ['.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
             "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', "
             "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
             ".pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
             ".pool.generation: Invalid value: -1: must be greater than or equal to zero"],
            id="pool",
        ),
        pytest.param(
            slice_of(device(), device()), ['.devices[1]: Duplicate value: "a"'], id="same-device",
        ),
        pytest.param(
            slice_of(*[device(taints=[{"key": "k", "effect": "NoSchedule"}])] * 65),
            [".devices: Too many: 65: must have at most 64 items"], id="fewer-devices-with-taints",
        ),
        pytest.param(
            slice_of(device(taints=[{"key": "a b", "effect": "Never"}, {"key": "k"}])),
            [f'.devices[0].taints[0].key: Invalid value: "a b": {KEY}',
             '.devices[0].taints[0].effect: Unsupported value: "Never": '
             'supported values: "NoExecute", "NoSchedule", "None"',
             ".devices[0].taints[1].effect: Required value"],
            id="taints",
        ),
        pytest.param(
            slice_of(device(attributes={
                "a": {}, "b": {"int": 1, "string": "x"}, "c": {"version": "1.2"}, "d": {"string": "x" * 65},
                "e": {"ints": [1]},
            })),
            ['.devices[0].attributes[a]: Invalid value: "": exactly one value must be specified',
             '.devices[0].attributes[b]: Invalid value: {"IntValue":1,"BoolValue":null,"StringValue":"x",'
             '"VersionValue":null,"IntValues":null,"BoolValues":null,"StringValues":null,"VersionValues":null}: '
             "exactly one value must be specified",
             '.devices[0].attributes[c].version: Invalid value: "1.2": '
             "must be a string compatible with semver.org spec 2.0.0",
             ".devices[0].attributes[d].string: Too long: may not be more than 64 bytes",
             '.devices[0].attributes[e]: Invalid value: "": exactly one value must be specified'],
            id="attributes",
        ),
        pytest.param(
            slice_of(device(attributes={"/": {"int": 1}, "1": {"int": 1}, "x" * 33: {"int": 1}})),
            ['.devices[0].attributes: Invalid value: "": the domain must not be empty',
             '.devices[0].attributes: Invalid value: "": the name must not be empty',
             f'.devices[0].attributes: Invalid value: "1": {IDENTIFIER}',
             ".devices[0].attributes: Too long: may not be more than 32 bytes"],
            id="names-of-attributes",
        ),
        pytest.param(
            slice_of(device(attributes={f"a{index}": {"int": 1} for index in range(49)})),
            [".devices[0]: Invalid value: 49: the total number of attributes and capacities must not exceed 32",
             ".devices[0]: Invalid value: 49: the total number of attribute values must not exceed 48"],
            id="many-attributes",
        ),
        pytest.param(
            slice_of(device(nodeName="n")), [f".devices[0]: Invalid value: null: {NO_OWN_PLACE}"], id="own-place",
        ),
        pytest.param(
            slice_of(device(), device(name="b", nodeName="n", allNodes=True), nodeName=None,
                     perDeviceNodeSelection=True),
            [f".devices[0]: Required value: {OWN_PLACES}",
             f'.devices[1]: Invalid value: "{{`nodeName`, `allNodes`}}": {OWN_PLACES}'],
            id="own-places",
        ),
        pytest.param(
            slice_of(device(consumesCounters=[{"counters": {"a": {"value": "1"}}}, {"counterSet": "s"}])),
            [".devices[0].consumesCounters[0].counterSet: Required value",
             ".devices[0].consumesCounters[1].counters: Required value"],
            id="consumed-counters",
        ),
        pytest.param(
            slice_of(devices=None, sharedCounters=[{"name": "s", "counters": {"A": {"value": "1"}}}, {"name": "s"}]),
            [f'.sharedCounters[0].counters: Invalid value: "A": {LABEL}',
             ".sharedCounters[1].counters: Required value", '.sharedCounters[1]: Duplicate value: "s"'],
            id="shared-counters",
        ),
        pytest.param(
            slice_of(sharedCounters=[]),
            [': Invalid value: "": only one of `sharedCounters` or `devices` is allowed'], id="counters-and-devices",
        ),
        pytest.param(
            slice_of(device(bindingConditions=["a", "a"], bindingFailureConditions=["a"])),
            ['.devices[0].bindingConditions[1]: Duplicate value: "a"',
             '.devices[0].bindingFailureConditions[0]: Invalid value: "a": '
             "bindingFailureConditions must not overlap with bindingConditions"],
            id="overlapping-conditions",
        ),
        pytest.param(
            slice_of(device(bindingConditions=["a"])),
            [".devices[0].bindingFailureConditions: Invalid value: null: "
             "bindingFailureConditions are required to use bindingConditions"],
            id="one-sort-of-conditions",
        ),
        pytest.param(
            slice_of(device(capacity={"m": {"value": "1", "requestPolicy": {}}})),
            [".devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"], id="unshared",
        ),
        pytest.param(
            slice_of(shared({"validValues": ["1"], "validRange": {"min": "1"}})),
            [".devices[0].capacity[m].requestPolicy: Forbidden: exactly one policy can be specified, cannot specify "
             '"validValues" and "validRange" at the same time'],
            id="two-policies",
        ),
        pytest.param(
            slice_of(shared({"default": "3Gi", "validValues": ["2Gi", "1Gi", "11Gi"]})),
            [f".devices[0].capacity[m].requestPolicy.validValues{fault}" for fault in (
                '[1]: Invalid value: "1Gi": values must be sorted in ascending order',
                '[2]: Invalid value: "11Gi": option is larger than capacity value: 10Gi',
                ': Invalid value: "3Gi": default value is not valid according to the requestPolicy')],
            id="valid-values",
        ),
        pytest.param(
            slice_of(shared({"default": "5Gi", "validRange": RANGE}, "2Gi")),
            [f".devices[0].capacity[m].requestPolicy.validRange.{fault}" for fault in (
                'max: Invalid value: "4Gi": max is larger than capacity value: 2Gi',
                'max: Invalid value: "5Gi": default is more than max: 4Gi',
                'step: Invalid value: "2Gi": one step 3Gi is larger than capacity value: 2Gi',
                'step: Invalid value: "4Gi": value is not a multiple of a given step (2Gi) from (1Gi)')],
            id="valid-range",
        ),
    ],
)  # fmt: skip
def test_slice(obj: Json, faults: list[str]) -> None:
    assert lines(devices.resource_slice(obj)) == [f"spec{fault}" for fault in faults]


def test_what_of_a_slice_never_changes() -> None:
    old, new = slice_of(), slice_of(driver="e", nodeName=None, allNodes=True, pool={**POOL, "name": "q"})
    assert lines(devices.slice_update(new, old)) == [
        'spec.pool.name: Invalid value: "q": field is immutable',
        'spec.driver: Invalid value: "e": field is immutable',
        "spec.nodeName: Invalid value: null: field is immutable",
    ]


def test_taints_that_stay_are_not_looked_at() -> None:
    made = slice_of(device(taints=[{"key": "k", "effect": "Never"}]))
    assert devices.slice_update(made, made) == []


def test_amounts_that_are_not_said_are_none() -> None:
    made = slice_of(device(capacity={"m": {}}, consumesCounters=[{"counterSet": "s", "counters": {"a": {}}}]))
    devices.default_slice(made)
    none = {"value": "0"}
    assert made["spec"]["devices"] == [
        device(capacity={"m": none}, consumesCounters=[{"counterSet": "s", "counters": {"a": none}}])
    ]


def test_requests_have_defaults() -> None:
    made = claim(exactly(count=0, tolerations=[{"key": "k"}]), exactly(allocationMode="All"))
    assert [request["exactly"] for request in made["spec"]["devices"]["requests"]] == [
        {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1,
         "tolerations": [{"key": "k", "operator": "Equal"}]},
        {"deviceClassName": "c", "allocationMode": "All"},
    ]  # fmt: skip


def test_capitals_in_a_driver_name_are_warned_of() -> None:
    assert devices.slice_warnings(slice_of()) == []
    assert devices.slice_warnings(slice_of(driver="A")) == [
        'spec.driver: driver names should be lowercase; "A" contains uppercase characters'
    ]


# -- the status of a claim ---------------------------------------------------------------------------------------------

RESULT = {"request": "r", "driver": "d", "pool": "p", "device": "a"}
CONSUMER = {"resource": "pods", "name": "a", "uid": "1"}
SHOWN_ID = '{"Driver":"d","Pool":"p","Device":"b","ShareID":""}'


def with_status(*results: Json, **status: Any) -> Json:
    allocation = {"allocation": {"devices": {"results": list(results)}}} if results else {}
    return {**claim(exactly()), "status": {**allocation, **status}}


@pytest.mark.parametrize(
    ("status", "faults"),
    [
        pytest.param(with_status(RESULT, reservedFor=[CONSUMER]), [], id="valid"),
        pytest.param(
            with_status(reservedFor=[CONSUMER]),
            ["reservedFor: Forbidden: may not be specified when `allocated` is not set"], id="reserved-unallocated",
        ),
        pytest.param(
            with_status(RESULT, reservedFor=[{}, CONSUMER, CONSUMER]),
            [*(f"reservedFor[0].{name}: Required value" for name in ("resource", "name", "uid")),
             'reservedFor[2]: Duplicate value: "1"'],
            id="consumers",
        ),
        pytest.param(
            with_status({**RESULT, "request": "x", "driver": "", "shareID": "1"}),
            [f'allocation.devices.results[0].request: Invalid value: "x": {REFERENCE}',
             "allocation.devices.results[0].driver: Required value",
             'allocation.devices.results[0].shareID: Invalid value: "1": '
             "error validating uid: invalid UUID length: 1"],
            id="results",
        ),
        pytest.param(
            with_status(allocation={"devices": {"config": [{"opaque": OPAQUE}, {"source": "x", "opaque": OPAQUE}]}}),
            ["allocation.devices.config[0].source: Required value",
             'allocation.devices.config[1].source: Unsupported value: "x": supported values: "FromClaim", "FromClass"'],
            id="sources-of-configuration",
        ),
        pytest.param(
            with_status(RESULT, devices=[{**RESULT, "device": "b"}] * 2),
            [f"devices[0]: Invalid value: {SHOWN_ID}: must be an allocated device in the claim",
             f"devices[1]: Invalid value: {SHOWN_ID}: must be an allocated device in the claim",
             f"devices[1]: Duplicate value: {SHOWN_ID}"],
            id="devices-that-are-not-allocated",
        ),
        pytest.param(
            with_status(RESULT, devices=[{**RESULT, "conditions": [{"type": "Ready", "status": "Maybe"}]}]),
            ['devices[0].conditions[0].status: Unsupported value: "Maybe": '
             'supported values: "False", "True", "Unknown"',
             "devices[0].conditions[0].lastTransitionTime: Required value",
             "devices[0].conditions[0].reason: Required value"],
            id="conditions",
        ),
        pytest.param(
            with_status(RESULT, devices=[{**RESULT, "networkData": {
                "interfaceName": "x" * 257, "ips": ["10.9.8.7", "2001:DB8::1/64", "10.9.8.7/24", "10.9.8.7/24"]}}]),
            ["devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
             'devices[0].networkData.ips[0]: Invalid value: "10.9.8.7": '
             "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
             'devices[0].networkData.ips[1]: Invalid value: "2001:DB8::1/64": '
             'must be in canonical form ("2001:db8::1/64")',
             'devices[0].networkData.ips[3]: Duplicate value: "10.9.8.7/24"'],
            id="network-data",
        ),
    ],
)  # fmt: skip
def test_status(status: Json, faults: list[str]) -> None:
    assert lines(claim_status(status, claim(exactly()))) == [f"status.{fault}" for fault in faults]


def test_an_allocation_never_changes() -> None:
    old, new = with_status(RESULT), with_status({**RESULT, "device": "b"})
    assert claim_status(old, old) == []
    assert lines(claim_status(new, old)) == [
        'status.allocation: Invalid value: {"Devices":{"Results":[{"Request":"r","Driver":"d","Pool":"p","Device":"b",'
        '"AdminAccess":null,"Tolerations":null,"BindingConditions":null,"BindingFailureConditions":null,'
        '"ShareID":null,"ConsumedCapacity":null}],"Config":null},"NodeSelector":null,"AllocationTimestamp":null}: '
        "field is immutable"
    ]


def test_a_claim_that_is_deleted_is_reserved_for_nobody_else() -> None:
    new = with_status(RESULT, reservedFor=[CONSUMER])
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert claim_status(new, new) == []
    assert lines(claim_status(new, with_status(RESULT))) == [
        "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or "
        "`deletionTimestamp` are set"
    ]


def test_the_state_of_a_device_goes_with_its_allocation() -> None:
    new = with_status(devices=[{"driver": "d", "pool": "p", "device": "a"}])
    forget_released(new, with_status(RESULT))
    assert new["status"] == {}
