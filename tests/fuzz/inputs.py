"""Random values and texts: objects by their schema, objects with a few things wrong, and bytes that are hardly JSON.

Everything comes from the random source that is handed in. Objects that a server would nearly accept reach deeper than
noise, so most inputs are right but for a place or two.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from orchestrator.api.schema import (
    BOOL,
    BYTES,
    INT_OR_STRING,
    INTEGER,
    LIST,
    MAP,
    MICRO_TIME,
    NUMBER,
    QUANTITY,
    STRING,
    STRUCT,
    TIME,
    Type,
)  # fmt: skip

DEPTH_MAX = 7  # of an object by its schema
NESTING = 3000  # deeper than any reader goes

NAMES = ("a", "b", "web", "a-b.c", "default", "kube-system", "x" * 63, "x" * 254)
ODD_NAMES = (
    "",
    " ",
    ".",
    "..",
    "-",
    "A_b",
    "é",
    "\u0000",
    "a/b",
    "%2e",
    "a%00b",
    "\uffff",
    "😀",
    "x" * 70_000,
)
TEXTS = (
    "1", "0", "true", "null", "IfNotPresent", "Always", "TCP", "ClusterIP", "RollingUpdate", "Retain", "In", "Exists",
    "10.0.0.1", "::1", "127.0.0.0/8", "fd00::/64", "2001:db8::1/129", "999.1.1.1", "http://127.0.0.1:1/x",
    "https://x", "*/5 * * * *", "TZ=UTC 0 0 * * *", "@hourly", "61 * * * *", "0-0/0 * * * *", "self.spec.x > 1",
    "object.x", "1 +", "'a'.matches('(')", "[1,2].all(x, x > 0)", "{.spec.replicas}", ".spec", "{..x", "a=b",
    "a in (b", "$(X)", "(?P<x", "[z-a]", "a{99999999}", "^(a+)+$", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z",
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:60.999999999Z", "2026-01-01T00:00:00.000001+25:99", "1Gi", "100m", "-1",
    "1e30", "1e-30", "99999999999999999999999999Ei", "0.0000000000001", "1e99999999", ".5", "+", "1i", "٣",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    80,
    -1,
    65535,
    65536,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    10**40,
    1.5,
    1e308,
    -0.0,
)


def text(random: Random) -> str:
    pool = random.choice((NAMES, NAMES, NAMES, TEXTS, TEXTS, ODD_NAMES))
    found = random.choice(pool)
    return found if random.random() < 0.9 else mutated_text(random, found)


def mutated_text(random: Random, found: str) -> str:
    place = random.randrange(len(found) + 1)
    return (
        found[:place]
        + random.choice((*"\x00\n\"'\\{}[]()=!,;:/%&#*~ ", "é", "😀"))
        + found[place + random.randrange(2) :]
    )


def value_of(random: Random, kind: Type, depth: int = 0) -> Any:
    """A value of the type, as deep as DEPTH_MAX; now and then of another."""
    if random.random() < 0.01:
        return anything(random)
    match kind.kind:
        case "struct":
            return object_of(random, kind, depth)
        case "list":
            assert kind.item is not None
            count = 0 if depth >= DEPTH_MAX else random.choice((0, 1, 1, 2, 3))
            return [value_of(random, kind.item, depth + 1) for _ in range(count)]
        case "map":
            assert kind.item is not None
            count = 0 if depth >= DEPTH_MAX else random.choice((0, 1, 2))
            return {text(random): value_of(random, kind.item, depth + 1) for _ in range(count)}
    return _SCALARS.get(kind.kind, anything)(random)


def object_of(random: Random, kind: Type, depth: int = 0) -> dict[str, Any]:
    found = {}
    likely = 0.5 if depth < 2 else 0.2 if depth < DEPTH_MAX else 0.0
    for name, field in kind.fields.items():
        if random.random() < (0.9 if field.required else likely):
            found[name] = value_of(random, field.type, depth + 1)
    return found


def anything(random: Random) -> Any:
    """Any JSON, and some that only looks like it."""
    choice = random.randrange(9)
    if choice == 0:
        return None
    if choice == 1:
        return random.choice((True, False))
    if choice <= 3:
        return random.choice(NUMBERS)
    if choice == 4:
        return [anything(random) for _ in range(random.randrange(3))]
    if choice == 5:
        return {text(random): anything(random) for _ in range(random.randrange(3))}
    return text(random)


_SCALARS: dict[str, Callable[[Random], Any]] = {
    STRING: text,
    BOOL: lambda random: random.choice((True, False)),
    INTEGER: lambda random: random.choice(NUMBERS[:10]),
    NUMBER: lambda random: random.choice(NUMBERS),
    QUANTITY: lambda random: random.choice((text(random), "1", "1Gi", "100m", 1, 0.5)),
    INT_OR_STRING: lambda random: random.choice((1, 80, "50%", "http", text(random), random.choice(NUMBERS))),
    TIME: lambda random: random.choice((text(random), "2026-01-01T00:00:00Z")),
    MICRO_TIME: lambda random: random.choice((text(random), "2026-01-01T00:00:00.000000Z")),
    BYTES: lambda random: random.choice((text(random), "YQ==", "YQ", "!")),
}
assert not {STRUCT, LIST, MAP} & _SCALARS.keys()


# -- an object with something wrong ------------------------------------------------------------------------------------


def mutated(random: Random, obj: Any, others: list[Any]) -> Any:
    """A copy with one to three places changed; `others` lend their parts."""
    changed = copy.deepcopy(obj)
    for _ in range(random.choice((1, 1, 2, 3))):
        holders = list(_holders(changed))
        if not holders:
            return anything(random)
        _change(random, random.choice(holders), others)
    return changed


def _holders(value: Any, depth: int = 0) -> Any:
    if isinstance(value, (dict, list)) and depth < 30:
        if value:
            yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner, depth + 1)


def _change(random: Random, holder: Any, others: list[Any]) -> None:
    key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    old = holder[key]
    if isinstance(old, str) and random.random() < 0.6:  # of its type at least
        holder[key] = text(random) if random.random() < 0.7 else mutated_text(random, old)
        return
    if type(old) is int and random.random() < 0.6:
        holder[key] = random.choice((*NUMBERS[:10], old + 1, -old))
        return
    choice = random.randrange(9)
    if choice == 0:
        del holder[key]
    elif choice == 1 and isinstance(holder, dict):
        holder[text(random)] = holder.pop(key)
    elif choice == 1:
        holder.insert(key, copy.deepcopy(old))
    elif choice == 2 and others:
        lent = list(_holders(random.choice(others)))
        holder[key] = copy.deepcopy(random.choice(lent)) if lent else None
    elif choice == 3 and isinstance(old, str):
        holder[key] = mutated_text(random, old)
    elif choice == 4 and type(old) is int:
        holder[key] = random.choice((old + 1, -old, old * 2**31, str(old), float(old)))
    elif choice == 5:
        holder[key] = random.choice(([old], {"a": old}, [], {}, [old] * 50))
    elif choice == 6:
        holder[key] = text(random)
    else:
        holder[key] = anything(random)


# -- bytes -------------------------------------------------------------------------------------------------------------


def to_json(obj: Any) -> bytes:
    """Python's own writer: it also writes lone surrogates, NaN and numbers of any length."""
    return json.dumps(obj).encode()


def to_yaml(obj: Any) -> bytes:
    return yaml.safe_dump(json.loads(json.dumps(obj))).encode(errors="surrogatepass")


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b",".join([b"*%c" % letter] * 9)) for letter in b"abcdefgh"
)
NASTY_YAML: tuple[bytes, ...] = (
    BOMB, b"a: &a [*a]", b"&a {a: *a}", b"? [a, b]\n: c", b"? {a: b}\n: c", b"a: !!binary x", b"a: !!set {b, c}",
    b"a: !!python/object:os.system x", b"a: !!omap [b: c]", b"a: !!timestamp 2026-01-01", b"a: !x y", b"<<: 1",
    b"a: {<<: [1, {b: c}]}", b"<<: &a {b: *a}", b"a: .inf\nb: .nan", b"a: 0x\nb: 0b\nc: 1__", b"a: 1e99999\nb: 1:30",
    b"a\n---\nb", b"---\n", b"%YAML 9.9\n---\na: b", b"- a\nb: c", b"a: 'x", b"\t", b"a: |9\n x", b"!!map",
    b"!!int x", b"a: !!bool x", b"a: !!float x", b"a: !!null x", b"2026-01-01: x\n1: y\n1.5: z\ntrue: w\nnull: v",
    b"a: " + b"9" * 5000, b"[" * NESTING, b"{a: " * NESTING, b"- " * NESTING, b"a: &x b\nc: *y", b"\xef\xbb\xbfa: b",
    b"\xff\xfea\x00:\x00 \x00b\x00",
)  # fmt: skip
NASTY_JSON: tuple[bytes, ...] = (
    b"", b"null", b"[]", b"{}", b'"x"', b"1", b"NaN", b"{", b"}", b'{"a":', b"[" * NESTING, b'{"a":' * NESTING,
    b"[" * NESTING + b"]" * NESTING, b'{"a":' * NESTING + b"1" + b"}" * NESTING, b'{"a":' * 900 + b"1" + b"}" * 900,
    b"[" * 1000 + b"]" * 1000, b'{"metadata":' * 500 + b"{}" + b"}" * 500, b'{"metadata":null}', b'{"metadata":[]}',
    b'{"metadata":"x","kind":1,"apiVersion":[]}', b'{"metadata":{"name":"\\ud800"}}',
    b'{"metadata":{"name":"\\u0000"}}', b"\xff", b'{"a":"\xed\xa0\x80"}', b"\xef\xbb\xbf{}",
    b'{"metadata":{"name":1e999}}', b'{"metadata":{"name":"a","name":"b"},"metadata":{}}',
    b'{"metadata":{"generation":123456789012345678901234567890}}', b'{"a":1}{"b":2}', b'{"a":01}', b"{'a':1}",
    b'{"metadata":{"managedFields":[{"manager":"x","operation":"Apply","fieldsV1":{"f:a":1,"k:{":{},"v:":{},"i:x":{}}}]}}',
)  # fmt: skip


def damaged(random: Random, data: bytes) -> bytes:
    """Bytes cut, doubled, flipped or put in."""
    if not data:
        return random.randbytes(random.randrange(40))
    place = random.randrange(len(data))
    match random.randrange(5):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]
        case 2:
            return data[:place] + random.randbytes(random.randrange(1, 9)) + data[place:]
        case 3:
            return data[:place] + data[place // 2 :]
    return data[:place] + data[min(place + random.randrange(1, 20), len(data)) :]


def protobuf(random: Random, api_version: str, kind: str) -> bytes:
    """The envelope of a kind around random fields: low numbers, so that many are fields that the kind has."""
    body = _message(random, 0)
    types = _bytes_field(1, api_version.encode()) + _bytes_field(2, kind.encode())
    whole = b"k8s\x00" + _bytes_field(1, types) + _bytes_field(2, body)
    return whole if random.random() < 0.7 else damaged(random, whole)


def _message(random: Random, depth: int) -> bytes:
    made = b""
    for _ in range(random.randrange(1, 5)):
        number, choice = random.randrange(1, 20), random.randrange(8)
        if choice == 0:
            made += _varint(number << 3) + _varint(random.choice((0, 1, 2**31, 2**63, 2**64 - 1)))
        elif choice == 1:
            made += _varint(number << 3 | 1) + struct.pack("<d", random.choice((0.0, 1.5, float("nan"), float("inf"))))
        elif choice == 2:
            made += _bytes_field(number, text(random).encode(errors="replace"))
        elif choice == 3 and random.random() < 0.2:
            made += bytes([random.randrange(256)])
        elif depth < 6:
            made += _bytes_field(number, _message(random, depth + 1))
    return made


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])
