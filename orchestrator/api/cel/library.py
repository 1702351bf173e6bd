"""The functions that Kubernetes adds to CEL: lists, patterns, URLs, addresses, quantities, versions, formats.

A value of a type of its own (a URL, a quantity, an address) is a map with one marked entry, so that it can be passed
from function to function; expressions have no other use for it. Functions get and give plain data.
Source: Reference, "Common Expression Language in Kubernetes", Kubernetes CEL libraries.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.api import quantity as quantities
from orchestrator.api.cel import strings
from orchestrator.api.kinds import formats
from orchestrator.api.structural import formats as value_formats

URL, QUANTITY, IP, CIDR, SEMVER, FORMAT = "@url", "@quantity", "@ip", "@cidr", "@semver", "@format"
AUTHORIZER, DECISION = "@authorizer", "@decision"
_SEMVER = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")


def _works(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, quantities.QuantityError):
            return False
        return True

    return check


# -- lists -------------------------------------------------------------------------------------------------------------


def _is_sorted(items: list[Any]) -> bool:
    return all(left <= right for left, right in itertools.pairwise(items))


def _extreme(pick: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def function(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return pick(items)

    return function


def _index_of(items: list[Any], item: Any) -> int:
    return items.index(item) if item in items else -1


def _last_index_of(items: list[Any], item: Any) -> int:
    return len(items) - 1 - items[::-1].index(item) if item in items else -1


def _distinct(items: list[Any]) -> list[Any]:
    made: list[Any] = []
    for item in items:
        if item not in made:
            made.append(item)
    return made


# -- regular expressions -----------------------------------------------------------------------------------------------


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


# -- URLs --------------------------------------------------------------------------------------------------------------


def _url(text: str) -> dict[str, str]:
    parts = urlsplit(text)
    if not (text.startswith("/") or (parts.scheme and (parts.netloc or parts.path))) or " " in text:
        raise ValueError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return {URL: text}


def _host(url: dict[str, str]) -> str:
    parts = urlsplit(url[URL])
    return parts.netloc.rpartition("@")[2]


def _hostname(url: dict[str, str]) -> str:
    return (urlsplit(url[URL]).hostname or "") if urlsplit(url[URL]).netloc else ""


def _port(url: dict[str, str]) -> str:
    port = urlsplit(url[URL]).port
    return "" if port is None else str(port)


# -- addresses ---------------------------------------------------------------------------------------------------------


def _address(text: str) -> Any:
    if "%" in text or text.lower().startswith("::ffff:"):
        raise ValueError(f'IP Address "{text}" parse error during conversion from string')
    return ipaddress.ip_address(text)


def _ip(text: str) -> dict[str, str]:
    return {IP: str(_address(text))}


def _cidr(text: str) -> dict[str, str]:
    if "/" not in text:
        raise ValueError(f'network address parse error during conversion from string: "{text}"')
    ipaddress.ip_network(text, strict=False)
    return {CIDR: text}


def _network(cidr: dict[str, str]) -> Any:
    return ipaddress.ip_network(cidr[CIDR], strict=False)


def _contains_ip(cidr: dict[str, str], ip: Any) -> bool:
    address = _address(ip if isinstance(ip, str) else ip[IP])
    return address.version == _network(cidr).version and address in _network(cidr)


def _contains_cidr(cidr: dict[str, str], other: Any) -> bool:
    inner, outer = _network(other if isinstance(other, dict) else _cidr(other)), _network(cidr)
    return inner.version == outer.version and bool(inner.subnet_of(outer))


# -- quantities and versions -------------------------------------------------------------------------------------------


def _quantity(text: str) -> dict[str, str]:
    quantities.parse(text)
    return {QUANTITY: text}


def _amount(found: dict[str, str]) -> Decimal:
    return Decimal(quantities.parse(found[QUANTITY]))


def _plus(sign: int) -> Callable[[dict[str, str], Any], dict[str, str]]:
    def function(left: dict[str, str], right: Any) -> dict[str, str]:
        other = _amount(right) if isinstance(right, dict) else Decimal(right)
        return {QUANTITY: format(_amount(left) + sign * other, "f")}

    return function


def _as_integer(found: dict[str, str]) -> int:
    amount = _amount(found)
    if amount != amount.to_integral_value():
        raise ValueError("cannot convert value to integer")
    return int(amount)


def _semver(text: str, normalize: bool = False) -> dict[str, str]:
    if normalize:
        text = text.removeprefix("v")
        numbers, mark, rest = re.match(r"^([\d.]*)([-+]?)(.*)$", text, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [str(int(part)) for part in numbers.split(".") if part]
        text = ".".join([*parts, *["0"] * (3 - len(parts))]) + mark + rest
    if not _SEMVER.match(text):
        raise ValueError(f'invalid semantic version "{text}"')
    return {SEMVER: text}


def _order(found: dict[str, str]) -> tuple[Any, ...]:
    parts = _SEMVER.match(found[SEMVER])
    assert parts is not None
    pre = tuple((0, int(one), "") if one.isdecimal() else (1, 0, one) for one in (parts[4] or "").split(".") if one)
    return int(parts[1]), int(parts[2]), int(parts[3]), not pre, pre


def _compared(key: Callable[[dict[str, str]], Any]) -> dict[str, Callable[[Any, Any], Any]]:
    return {
        "isLessThan": lambda left, right: key(left) < key(right),
        "isGreaterThan": lambda left, right: key(left) > key(right),
        "compareTo": lambda left, right: (key(left) > key(right)) - (key(left) < key(right)),
    }


def _by_type(**functions: Callable[..., Any]) -> Callable[..., Any]:
    """One function for several marked types, chosen by the mark of the first argument."""

    def function(first: dict[str, str], *rest: Any) -> Any:
        for mark, chosen in functions.items():
            if f"@{mark}" in first:
                return chosen(first, *rest)
        raise ValueError("no such overload")

    return function


# -- formats -----------------------------------------------------------------------------------------------------------

_NAMED: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": formats.dns_label,
    "dns1123Subdomain": formats.dns_subdomain,
    "dns1035Label": formats.dns1035_label,
    "qualifiedName": formats.qualified_name,
    "dns1123LabelPrefix": lambda text: formats.dns_label(text, True),
    "dns1123SubdomainPrefix": lambda text: formats.dns_subdomain(text, True),
    "dns1035LabelPrefix": lambda text: formats.dns1035_label(text, True),
    "labelValue": formats.label_value,
}
_OTHER_NAMES = {"uri": "uri", "uuid": "uuid", "byte": "byte", "date": "date", "datetime": "datetime"}


def _format_faults(found: dict[str, str], text: str) -> list[str]:
    name = found[FORMAT]
    if name in _NAMED:
        return _NAMED[name](text)
    return [] if value_formats.holds(_OTHER_NAMES[name], text) else ["invalid " + name]


def _named_format(name: str) -> dict[str, str] | None:
    return {FORMAT: name} if name in _NAMED or name in _OTHER_NAMES else None


# -- who may do what ---------------------------------------------------------------------------------------------------

Check = Callable[[Mapping[str, Any], str], tuple[bool, str]]
_check: ContextVar[Check] = ContextVar("check")


@contextmanager
def asking(check: Check) -> Iterator[None]:
    """While expressions are evaluated here, `authorizer` asks `check(question, verb)`."""
    mark = _check.set(check)
    try:
        yield
    finally:
        _check.reset(mark)


def _question(name: str) -> Callable[..., Any]:
    def step(found: dict[str, Any], *values: str) -> dict[str, Any]:
        return {AUTHORIZER: {**found[AUTHORIZER], name: list(values) if len(values) > 1 else values[0]}}

    return step


def _ask(found: dict[str, Any], verb: str) -> dict[str, Any]:
    allowed, reason = _check.get()(found[AUTHORIZER], verb)
    return {DECISION: {"allowed": allowed, "reason": reason}}


# -- the table ---------------------------------------------------------------------------------------------------------


def functions(cel: Any) -> list[Any]:
    """The declarations for an environment; `cel` is the library's module."""
    kind = cel.Type
    marked = kind.Map(kind.DYN, kind.DYN)
    items = kind.List(kind.DYN)
    made: dict[str, list[Any]] = {}

    def add(name: str, parameters: list[Any], result: Any, function: Callable[..., Any], member: bool = True) -> None:
        number = sum(map(len, made.values()))
        overload = cel.Overload(
            f"kubernetes_{name}_{number}", return_type=result, parameters=parameters, is_member=member, impl=function
        )
        made.setdefault(name, []).append(overload)

    add("isSorted", [items], kind.BOOL, _is_sorted)
    add("sum", [items], kind.DYN, sum)
    add("min", [items], kind.DYN, _extreme(min, "min"))
    add("max", [items], kind.DYN, _extreme(max, "max"))
    for one in (kind.INT, kind.STRING, kind.DOUBLE, kind.BOOL, marked, items):  # what is dynamic has a type by then
        add("indexOf", [items, one], kind.INT, _index_of)
        add("lastIndexOf", [items, one], kind.INT, _last_index_of)
    add("distinct", [items], items, _distinct)
    add("sort", [items], items, sorted)
    add("sets.contains", [items, items], kind.BOOL, lambda a, b: all(one in a for one in b), False)
    add("sets.intersects", [items, items], kind.BOOL, lambda a, b: any(one in a for one in b), False)
    add("sets.equivalent", [items, items], kind.BOOL,
        lambda a, b: all(one in a for one in b) and all(one in b for one in a), False)  # fmt: skip
    add("charAt", [kind.STRING, kind.INT], kind.STRING, strings.char_at)
    for numbers in ([], [kind.INT]):
        add("indexOf", [kind.STRING, kind.STRING, *numbers], kind.INT, strings.index_of)
        add("lastIndexOf", [kind.STRING, kind.STRING, *numbers], kind.INT, strings.last_index_of)
    add("replace", [kind.STRING, kind.STRING, kind.STRING], kind.STRING, strings.replace)
    add("replace", [kind.STRING, kind.STRING, kind.STRING, kind.INT], kind.STRING, strings.replace)
    add("split", [kind.STRING, kind.STRING], kind.List(kind.STRING), strings.split)
    add("split", [kind.STRING, kind.STRING, kind.INT], kind.List(kind.STRING), strings.split)
    add("substring", [kind.STRING, kind.INT], kind.STRING, strings.substring)
    add("substring", [kind.STRING, kind.INT, kind.INT], kind.STRING, strings.substring)
    add("join", [items], kind.STRING, strings.join)
    add("join", [items, kind.STRING], kind.STRING, strings.join)
    add("trim", [kind.STRING], kind.STRING, str.strip)
    add("lowerAscii", [kind.STRING], kind.STRING, strings.lower_ascii)
    add("upperAscii", [kind.STRING], kind.STRING, strings.upper_ascii)
    add("reverse", [kind.STRING], kind.STRING, lambda text: text[::-1])
    add("strings.quote", [kind.STRING], kind.STRING, strings.quote, False)
    add("format", [kind.STRING, items], kind.STRING, strings.formatted)
    add("find", [kind.STRING, kind.STRING], kind.STRING, _find)
    add("findAll", [kind.STRING, kind.STRING], items, _find_all)
    add("findAll", [kind.STRING, kind.STRING, kind.INT], items, _find_all)
    for name, parse in (("url", _url), ("ip", _ip), ("cidr", _cidr), ("quantity", _quantity), ("semver", _semver)):
        add(name, [kind.STRING], marked, parse, False)
    add("semver", [kind.STRING, kind.BOOL], marked, _semver, False)
    for name, parse in (
        ("isURL", _url), ("isIP", _ip), ("isCIDR", _cidr), ("isQuantity", _quantity), ("isSemver", _semver),
    ):  # fmt: skip
        add(name, [kind.STRING], kind.BOOL, _works(parse), False)
    add(
        "isSemver",
        [kind.STRING, kind.BOOL],
        kind.BOOL,
        lambda text, loose: _works(lambda t: _semver(t, loose))(text),
        False,
    )
    for name, text_of in {
        "getScheme": lambda url: urlsplit(url[URL]).scheme, "getHost": _host, "getHostname": _hostname,
        "getPort": _port, "getEscapedPath": lambda url: urlsplit(url[URL]).path,
    }.items():  # fmt: skip
        add(name, [marked], kind.STRING, text_of)
    add("getQuery", [marked], kind.Map(kind.STRING, items), lambda url: parse_qs(urlsplit(url[URL]).query))
    add("ip.isCanonical", [kind.STRING], kind.BOOL, lambda text: str(_address(text)) == text, False)
    add("family", [marked], kind.INT, lambda ip: _address(ip[IP]).version)
    for name, flag in {
        "isUnspecified": "is_unspecified", "isLoopback": "is_loopback", "isLinkLocalMulticast": "is_multicast",
        "isLinkLocalUnicast": "is_link_local", "isGlobalUnicast": "is_global",
    }.items():  # fmt: skip
        add(name, [marked], kind.BOOL, lambda ip, flag=flag: bool(getattr(_address(ip[IP]), flag)))
    for parameter in (marked, kind.STRING):
        add("containsIP", [marked, parameter], kind.BOOL, _contains_ip)
        add("containsCIDR", [marked, parameter], kind.BOOL, _contains_cidr)
    add("ip", [marked], marked, lambda cidr: {IP: str(ipaddress.ip_interface(cidr[CIDR]).ip)})
    add("masked", [marked], marked, lambda cidr: {CIDR: str(_network(cidr))})
    add("prefixLength", [marked], kind.INT, lambda cidr: _network(cidr).prefixlen)
    for name, function in _compared(_amount).items():
        versions = _compared(_order)[name]
        result = kind.INT if name == "compareTo" else kind.BOOL
        add(name, [marked, marked], result, _by_type(quantity=function, semver=versions))
    for name, sign in (("add", 1), ("sub", -1)):
        for parameter in (marked, kind.INT):
            add(name, [marked, parameter], marked, _plus(sign))
    add("asInteger", [marked], kind.INT, _as_integer)
    add("isInteger", [marked], kind.BOOL, lambda found: _amount(found) == _amount(found).to_integral_value())
    add("asApproximateFloat", [marked], kind.DOUBLE, lambda found: float(_amount(found)))
    add("sign", [marked], kind.INT, lambda found: (_amount(found) > 0) - (_amount(found) < 0))
    for place, name in enumerate(("major", "minor", "patch")):
        add(name, [marked], kind.INT, lambda found, place=place: _order(found)[place])
    add("format.named", [kind.STRING], kind.DYN, _named_format, False)
    for name in (*_NAMED, *_OTHER_NAMES):
        add(f"format.{name}", [], marked, lambda name=name: {FORMAT: name}, False)
    for name in ("group", "resource", "path", "subresource", "namespace", "name"):
        add(name, [marked, kind.STRING], marked, _question(name))
    add("serviceAccount", [marked, kind.STRING, kind.STRING], marked, _question("serviceAccount"))
    add("check", [marked, kind.STRING], marked, _ask)
    add("allowed", [marked], kind.BOOL, lambda found: found[DECISION]["allowed"])
    add("reason", [marked], kind.STRING, lambda found: found[DECISION]["reason"])
    add("errored", [marked], kind.BOOL, lambda found: False)
    add("error", [marked], kind.STRING, lambda found: "")
    add("jsonpatch.escapeKey", [kind.STRING], kind.STRING,
        lambda text: text.replace("~", "~0").replace("/", "~1"), False)  # fmt: skip
    add("validate", [marked, kind.STRING], kind.DYN, _format_faults)
    return [cel.FunctionDecl(name, overloads) for name, overloads in made.items()]
