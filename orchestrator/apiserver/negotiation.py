"""Content negotiation: in what form and encoding a client wants its answer, from the Accept header.

Forms: the object itself, a Table (kubectl's columns), PartialObjectMetadata(List), or an aggregated discovery document.
Encodings: JSON and YAML. Ranges are tried in the client's order; one that we do not serve (protobuf, CBOR) is passed
over, so that Go clients fall back to JSON. Errors: NotAcceptable where nothing fits.
Source: RFC 9110, 12.5.1; Kubernetes API concepts, "Alternate representations of resources".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.api.status import NotAcceptable
from orchestrator.apiserver.encoding import JSON, YAML

OBJECT, TABLE, METADATA, DISCOVERY = "object", "table", "metadata", "discovery"
FORMS = {
    "": OBJECT,
    "Table": TABLE,
    "PartialObjectMetadata": METADATA,
    "PartialObjectMetadataList": METADATA,
    "APIGroupDiscoveryList": DISCOVERY,
}
NOTHING_FITS = "only the following media types are accepted: application/json, application/yaml"
_WILDCARDS = ("*/*", "application/*")
_VERSIONS = {TABLE: ("v1", "v1beta1"), METADATA: ("v1", "v1beta1"), DISCOVERY: ("v2", "v2beta1")}


@dataclass(frozen=True, slots=True)
class Accepted:
    form: str = OBJECT
    media_type: str = JSON
    version: str = "v1"

    @property
    def is_plain(self) -> bool:
        return self.form is OBJECT and self.media_type is JSON


PLAIN = Accepted()


@lru_cache(maxsize=256)
def accepted(header: str, forms: tuple[str, ...] = (OBJECT, TABLE, METADATA)) -> Accepted:
    if not header:
        return PLAIN
    for media_range in _ordered(header):
        media_type, parameters = media_range
        if media_type in _WILDCARDS or media_type == JSON:
            encoding = JSON
        elif media_type in (YAML, "application/x-yaml", "text/yaml"):
            encoding = YAML
        else:
            continue
        form = FORMS.get(parameters.get("as", ""))
        version = parameters.get("v", "v1")
        if form in forms and (form == OBJECT or version in _VERSIONS.get(form, ())):
            return PLAIN if form == OBJECT and encoding == JSON else Accepted(form, encoding, version)
    raise NotAcceptable(NOTHING_FITS)


def _ordered(header: str) -> list[tuple[str, dict[str, str]]]:
    """(media type, parameters) by falling quality, equal ones in the client's order."""
    found = []
    for part in header.split(","):
        media_type, *rest = (piece.strip() for piece in part.split(";"))
        parameters = dict(piece.split("=", 1) for piece in rest if "=" in piece)
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            found.append((quality, media_type.lower(), parameters))
    found.sort(key=lambda entry: -entry[0])
    return [(media_type, parameters) for _, media_type, parameters in found]
