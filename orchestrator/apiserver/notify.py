"""The service manager's wish to know when the server answers, as kube-apiserver tells it.

Source: sd_notify(3): a datagram to the Unix socket that NOTIFY_SOCKET names; with @ first it is an abstract name.
"""

from __future__ import annotations

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def ready() -> None:
    """Nothing where nobody asked. OSError where who asked is gone."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", f"\0{address[1:]}" if address.startswith("@") else address)
