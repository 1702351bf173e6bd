"""Where a webhook is: rules that conversion webhooks and admission webhooks share.

Source: apiserver, `pkg/util/webhook` validation; API reference, WebhookClientConfig and ServiceReference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.api.kinds import faults, formats
from orchestrator.api.status import Cause

Json = Mapping[str, Any]


def webhook_url(url: str, path: str) -> list[Cause]:
    """Rules of a `clientConfig.url`."""
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [faults.required(path, f"url must be a valid URL: {error}{form}")]
    causes = []
    if parts.scheme != "https":
        causes.append(faults.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not parts.netloc:
        causes.append(faults.invalid(path, parts.netloc, f"host must be specified{form}"))
    if parts.username is not None:
        causes.append(faults.invalid(path, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        causes.append(faults.invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        causes.append(faults.invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return causes


def webhook_service(service: Json, path: str) -> list[Cause]:
    """Rules of a `clientConfig.service`."""
    causes = [] if service.get("name") else [faults.required(f"{path}.name")]
    if not service.get("namespace"):
        causes.append(faults.required(f"{path}.namespace"))
    port = service.get("port", 443)
    if formats.port_number(port):
        rule = f"port is not valid: {'; '.join(formats.port_number(port))}"
        causes.append(faults.invalid(f"{path}.port", port, rule))
    text = service.get("path")
    if not text:
        return causes
    place = f"{path}.path"
    if text == "/":
        return causes
    if text == "//":
        return [*causes, faults.invalid(place, text, "segment[0] may not be empty")]
    if not text.startswith("/"):
        causes.append(faults.invalid(place, text, "must start with a '/'"))
    steps = text[1:].removesuffix("/").split("/")  # whatever the first character is
    for index, step in enumerate(steps):
        if not step:
            causes.append(faults.invalid(place, text, f"segment[{index}] may not be empty"))
        else:
            causes += [faults.invalid(place, text, f"segment[{index}]: {why}") for why in formats.dns_subdomain(step)]
    return causes
