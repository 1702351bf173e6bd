"""libvirt itself: the one place that imports its Python binding, and the connections that this process holds.

The binding is Debian's python3-libvirt, which lies outside a virtual environment: its folder is looked at last.
Errors: BindingError where no binding is there, ConnectionFailed where no libvirtd answers; both say what to do.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

DIST_PACKAGES = "/usr/lib/python3/dist-packages"
DEFAULT_URI = "qemu:///system"


class BindingError(RuntimeError):
    """libvirt's Python binding cannot be loaded."""


class ConnectionFailed(RuntimeError):
    """No libvirtd answers at that URI, or it refuses us."""


def _load() -> ModuleType:
    try:
        return importlib.import_module("libvirt")
    except ImportError:
        if DIST_PACKAGES not in sys.path:
            sys.path.append(DIST_PACKAGES)
    try:
        return importlib.import_module("libvirt")
    except ImportError as error:
        raise BindingError(
            f"libvirt's Python binding cannot be loaded by Python {sys.version_info.major}.{sys.version_info.minor} "
            f"({error}). Install Debian's python3-libvirt, and run on the same Python (./sampan toolchain does both)."
        ) from error


libvirt: Any = _load()
libvirt.registerErrorHandler(lambda context, error: None, None)  # an error is raised; it need not be printed as well


def connect(uri: str) -> Any:
    """A new connection (libvirt.virConnect). Over SSH it asks for no password: Pulumi's display has the terminal."""
    try:
        return libvirt.open(_quiet(uri))
    except libvirt.libvirtError as error:
        raise ConnectionFailed(_explain(uri, error)) from error


class Connections:
    """The connections of this process, one a URI, opened at their first use and again after libvirtd has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Any] = {}

    def get(self, uri: str) -> Any:
        with self._lock:
            if (held := self._open.get(uri)) is not None:
                if _answers(held):
                    return held
                del self._open[uri]
            self._open[uri] = connect(uri)
            return self._open[uri]

    def close(self) -> None:
        with self._lock:
            for held in self._open.values():
                try:
                    held.close()
                except libvirt.libvirtError:
                    pass  # its libvirtd has gone already
            self._open.clear()


def _answers(connection: Any) -> bool:
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True


def _quiet(uri: str) -> str:
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh") or "no_tty" in dict(parse_qsl(parts.query, keep_blank_values=True)):
        return uri
    return f"{uri}{'&' if parts.query else '?'}no_tty=1"


def _explain(uri: str, error: Any) -> str:
    said = error.get_error_message() or str(error)
    remedy = "Start libvirtd there, or name another one: pulumi config set libvirt:uri, or LIBVIRT_DEFAULT_URI."
    if "Permission denied" in said or error.get_error_code() == libvirt.VIR_ERR_AUTH_FAILED:
        remedy = "Become root, join the group libvirt, or (over SSH) add your key to that user's authorized_keys."
    elif "nc: " in said:
        remedy = (
            "Where the URI names a socket, the other machine needs a netcat that speaks it (Debian: netcat-openbsd)."
        )
    elif "No such file" in said or "Connection refused" in said:
        remedy = (
            "No libvirtd runs there. Start it (systemctl start libvirtd), or let Sampan start its own: "
            'eval "$(./sampan toolchain --shell)".'
        )
    return f"libvirt at {uri}: {said}. {remedy}"
