"""Formats: names, labels, ports and keys. Each function returns complaints in kube-apiserver's words, none if valid.

Name functions take `is_prefix`: a generateName may end with a dash, since something comes after it.
Source: Concepts, "Object Names and IDs", "Labels and Selectors"; apimachinery validation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

MATCHES_KEPT = 4096
KEPT_MAX = 253  # characters: no name is longer
NameFormat = Callable[[str, bool], list[str]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"

_ALNUM = "must start and end with an alphanumeric character"
_LABEL_RULE = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ALNUM}"
_SUBDOMAIN_RULE = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and {_ALNUM}"
)
_DNS1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_WILDCARD_RULE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_KEY_RULE = f"must consist of alphanumeric characters, '-', '_' or '.', and {_ALNUM}"
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)


def _regex(rule: str, pattern: str, *examples: str) -> str:
    """The rule with examples and the pattern; the doubled blank after "or" is upstream's."""
    if not examples:
        return f"{rule} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"


def _matches(pattern: str, text: str) -> bool:
    return _matched(pattern, text) if len(text) <= KEPT_MAX else re.fullmatch(pattern, text) is not None


@lru_cache(maxsize=MATCHES_KEPT)  # the same few names, keys and labels are checked again and again
def _matched(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def too_long(length: int, unit: str = "characters") -> str:
    return f"must be no more than {length} {unit}"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


# -- names -------------------------------------------------------------------------------------------------------------


def _unmasked(name: str, is_prefix: bool) -> str:
    """A generateName's final dash stands for what is generated."""
    return f"{name[:-2]}a" if is_prefix and len(name) > 1 and name.endswith("-") else name


def dns_subdomain(name: str, is_prefix: bool = False) -> list[str]:
    name = _unmasked(name, is_prefix)
    complaints = [too_long(253)] if len(name) > 253 else []
    if not _matches(_SUBDOMAIN, name):
        complaints.append(_regex(_SUBDOMAIN_RULE, _SUBDOMAIN, "example.com"))
    return complaints


def search_domain(name: str) -> list[str]:
    """A DNS search path: a subdomain whose labels may have underscores."""
    label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
    pattern = rf"{label}(\.{label})*"
    complaints = [too_long(253)] if len(name) > 253 else []
    if not _matches(pattern, name):
        rule = _SUBDOMAIN_RULE.replace("characters, '-'", "characters, '_', '-'")
        complaints.append(_regex(rule, pattern, "example.com"))
    return complaints


def dns_label(name: str, is_prefix: bool = False) -> list[str]:
    name = _unmasked(name, is_prefix)
    complaints = [too_long(63)] if len(name) > 63 else []
    if _matches(_LABEL, name):
        return complaints
    if _matches(_SUBDOMAIN, name):
        return [*complaints, "must not contain dots"]
    return [*complaints, _regex(_LABEL_RULE, _LABEL, "my-name", "123-abc")]


def dns1035_label(name: str, is_prefix: bool = False) -> list[str]:
    name = _unmasked(name, is_prefix)
    complaints = [too_long(63)] if len(name) > 63 else []
    if not _matches(_DNS1035, name):
        complaints.append(_regex(_DNS1035_RULE, _DNS1035, "my-name", "abc-123"))
    return complaints


def path_segment(name: str, is_prefix: bool = False) -> list[str]:
    if not is_prefix and name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{mark}'" for mark in ("/", "%") if mark in name]


def wildcard_subdomain(name: str) -> list[str]:
    return [] if _matches(_WILDCARD, name) else [_regex(_WILDCARD_RULE, _WILDCARD, "*.example.com")]


# -- labels ------------------------------------------------------------------------------------------------------------


def qualified_name(key: str) -> list[str]:
    """A label or annotation key: `name` or `example.com/name`."""
    prefix, slash, name = key.rpartition("/")
    if key.count("/") > 1:
        rule = _regex(_KEY_RULE, _KEY, "MyName", "my.name", "123-abc")
        return [f"a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    complaints = []
    if slash and not prefix:
        complaints.append("prefix part must be non-empty")
    elif slash:
        complaints.extend(f"prefix part {complaint}" for complaint in dns_subdomain(prefix))
    if not name:
        complaints.append("name part must be non-empty")
    elif len(name) > 63:
        complaints.append(f"name part {too_long(63, 'bytes')}")
    if not _matches(_KEY, name):
        complaints.append(f"name part {_regex(_KEY_RULE, _KEY, 'MyName', 'my.name', '123-abc')}")
    return complaints


def label_value(value: str) -> list[str]:
    complaints = [too_long(63, "bytes")] if len(value) > 63 else []
    if not _matches(_VALUE, value):
        complaints.append(_regex(_VALUE_RULE, _VALUE, "MyValue", "my_value", "12345"))
    return complaints


# -- ports, keys, addresses --------------------------------------------------------------------------------------------


def port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else [between(1, 65535)]


def port_name(name: str) -> list[str]:
    """An IANA service name."""
    complaints = [too_long(15)] if len(name) > 15 else []
    if not _matches("[-a-z0-9]+", name):
        complaints.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        complaints.append("must contain at least one letter (a-z)")
    if "--" in name:
        complaints.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        complaints.append("must not begin or end with a hyphen")
    return complaints


def _dots(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def config_key(key: str) -> list[str]:
    """A key of a ConfigMap or Secret: it becomes a file name."""
    complaints = [too_long(253)] if len(key) > 253 else []
    if not _matches(_CONFIG_KEY, key):
        rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        complaints.append(_regex(rule, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return complaints + _dots(key)


def environment_name(name: str) -> list[str]:
    if not name:
        return ["environment variable name must be non-empty"]
    if not (name.isascii() and name.isprintable()) or "=" in name:
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []


def c_identifier(name: str) -> list[str]:
    rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"  # fmt: skip  # noqa: E501
    return [] if _matches(_C_IDENTIFIER, name) else [_regex(rule, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def header_name(name: str) -> list[str]:
    rule = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [] if _matches(_HEADER, name) else [_regex(rule, _HEADER, "X-Header-Name")]


def percent(text: str) -> list[str]:
    rule = "a valid percent string must be a numeric string followed by an ending '%'"
    return [] if _matches(_PERCENT, text) else [_regex(rule, _PERCENT, "1%", "93%")]


def ip_address(text: str) -> list[str]:
    try:
        found = ipaddress.ip_address(without_leading_zeros(text))
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if without_leading_zeros(text) != text:
        return ["must not have leading 0s"]
    is_mapped = isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None
    return ["must not be an IPv4-mapped IPv6 address"] if is_mapped else []


def without_leading_zeros(text: str) -> str:
    """An address as older versions of Go read it: with numbers that begin by a zero nevertheless decimal."""
    return re.sub(r"\b0+(?=[0-9])", "", text) if "." in text and ":" not in text else text


def cidr(text: str) -> list[str]:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if "/" not in text:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return []
