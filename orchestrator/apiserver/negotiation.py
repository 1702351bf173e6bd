"""Content negotiation: in what form and encoding a client wants its answer, from the Accept header.

Forms: the object itself, a Table (kubectl's columns), PartialObjectMetadata(List), or an aggregated discovery document.
Encodings: JSON, YAML and protobuf. Ranges are tried in the client's order; one that asks for what is not to be had (a
Table as protobuf, a custom resource as protobuf, CBOR) is passed over, so that Go clients fall back to JSON.
Errors: NotAcceptable where nothing fits. Upstream says so in two ways, since its routes of built-in kinds are guarded
by go-restful, which knows whole names and `*/*` alone (`check_route`).
Source: RFC 9110, 12.5.1; Kubernetes API concepts, "Alternate representations of resources"; apiserver negotiation.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct, field

from orchestrator.api.status import NotAcceptable
from orchestrator.apiserver.encoding import JSON, PROTOBUF, YAML

OBJECT, TABLE, METADATA, DISCOVERY = "object", "table", "metadata", "discovery"
ENCODINGS = (JSON, YAML, PROTOBUF)
FORMS = (OBJECT, TABLE, METADATA)  # of resources
TEXTS = (JSON, YAML)  # the encodings of custom resources, and of Tables
STREAMS = (f"{JSON};stream=watch", f"{PROTOBUF};stream=watch")
NOTHING_FITS = f"only the following media types are accepted: {', '.join(ENCODINGS)}"
NO_STREAM_FITS = f"only the following media types are accepted: {', '.join(STREAMS)}"
_META, _DISCOVERY = "meta.k8s.io", "apidiscovery.k8s.io"
_FORMS = {
    (_META, "Table"): TABLE,
    (_META, "PartialObjectMetadata"): METADATA,
    (_META, "PartialObjectMetadataList"): METADATA,
    (_DISCOVERY, "APIGroupDiscoveryList"): DISCOVERY,
}
_VERSIONS = {TABLE: ("v1", "v1beta1"), METADATA: ("v1", "v1beta1"), DISCOVERY: ("v2",)}


class Accepted(Struct, frozen=True):
    form: str = OBJECT
    media_type: str = JSON
    version: str = "v1"
    of_list: bool = False  # PartialObjectMetadataList, which is to be had of lists alone

    @property
    def is_plain(self) -> bool:
        return self.form is OBJECT and self.media_type is JSON


PLAIN = Accepted()


class Range(Struct):
    """One clause of the header."""

    type: str
    subtype: str
    quality: float = 1.0
    parameters: dict[str, str] = field(default_factory=dict)

    def covers(self, media_type: str) -> bool:
        kind, _, subtype = media_type.partition("/")
        return self.type in (kind, "*") and (self.subtype == subtype or self.subtype == "*")

    def precedes(self, other: Range) -> bool:
        """Not an order, since a wildcard of more quality and a name of less each precede the other: so upstream."""
        if self.quality > other.quality:
            return True
        if self.type != "*" and other.type == "*":
            return True
        return self.subtype != "*" and other.subtype == "*"


def check_route(header: str, route: tuple[str, ...]) -> None:
    """NotAcceptable where none of the media types of a route is named."""
    if header and not any(part.partition(";")[0].strip(" ") in (*route, "*/*") for part in header.split(",")):
        raise NotAcceptable(f"406: Not Acceptable\n\nAvailable representations: {', '.join(route)}")


@lru_cache(maxsize=256)
def accepted(
    header: str,
    forms: tuple[str, ...] = FORMS,
    encodings: tuple[str, ...] = ENCODINGS,
    route: tuple[str, ...] = (),
) -> Accepted:
    """What fits best; `encodings` are those that whole objects are to be had in, `route` what a guarded route has."""
    if not header:
        return PLAIN
    if route:
        check_route(header, route)
    for wanted in ranges(header):
        for media_type in ENCODINGS:
            if wanted.covers(media_type) and (found := _fitting(wanted, media_type, forms, encodings)):
                return found
    raise NotAcceptable(NOTHING_FITS)


def _fitting(wanted: Range, media_type: str, forms: tuple[str, ...], encodings: tuple[str, ...]) -> Accepted | None:
    parameters = wanted.parameters
    if parameters.get("stream") and (parameters["stream"] != "watch" or media_type == YAML):
        return None
    if parameters.get("sv") and (parameters["sv"] != "v1" or METADATA not in forms):
        return None
    if not parameters.keys() & {"as", "g", "v"}:
        if OBJECT not in forms or media_type not in encodings:
            return None
        return PLAIN if media_type == JSON else Accepted(OBJECT, media_type)
    form = _FORMS.get((parameters.get("g", ""), parameters.get("as", "")), "")
    version = parameters.get("v", "")
    if form not in forms or version not in _VERSIONS[form] or (form == TABLE and media_type not in TEXTS):
        return None
    return Accepted(form, media_type, version, of_list=parameters["as"].endswith("MetadataList"))


def ranges(header: str) -> list[Range]:
    """The clauses by quality, named types before wildcards, else in the client's order: by insertion, as upstream's
    sort does it with so few, and `precedes` wants no other."""
    found = [made for part in header.split(",") if (made := _range(part.strip(" "))) is not None]
    for end in range(1, len(found)):
        place = end
        while place > 0 and found[place].precedes(found[place - 1]):
            found[place - 1], found[place] = found[place], found[place - 1]
            place -= 1
    return found


def _range(text: str) -> Range | None:
    name, *rest = text.split(";")
    kind, _, subtype = name.partition("/")
    kind, subtype = kind.strip(" "), subtype.strip(" ")
    if not subtype and kind == "*":
        subtype = "*"
    if not subtype or "/" in subtype:
        return None
    made = Range(kind, subtype)
    for piece in rest:
        key, is_given, value = piece.partition("=")
        if not is_given or not value or "=" in value:
            continue
        if key.strip(" ") == "q":
            made.quality = _quality(value)
        else:
            made.parameters[key.strip(" ")] = value.strip(" ")
    return made


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
