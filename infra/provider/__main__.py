"""`python -m infra.provider [ENGINE]`: prints the port it listens on, then serves until it is told to stop.

The port is the first line of the output, and nothing may come before it.
"""

from __future__ import annotations

import logging
import os
import sys
from concurrent import futures

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from infra.provider.cloudinit import CloudInitDisk
from infra.provider.domain import Domain
from infra.provider.engine import Engine
from infra.provider.first_boot import Combustion, Ignition
from infra.provider.network import Network
from infra.provider.pool import Pool
from infra.provider.resource import Resource
from infra.provider.server import Provider
from infra.provider.volume import Volume
from infra.toolchain.plugin_process import end_with_parent, serve

WORKERS = 32  # calls at once; most of them wait for libvirt or a guest
MESSAGE_BYTES_MAX = 400 * 1024 * 1024  # as Pulumi's own plugins allow
GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]


def resources() -> tuple[Resource, ...]:
    return (Network(), Pool(), Volume(), CloudInitDisk(), Domain(), Ignition(), Combustion())


def main(arguments: list[str]) -> None:
    provider = Provider(resources(), Engine(arguments[0] if arguments else ""))
    end_with_parent(provider.stop)
    logging.basicConfig(stream=sys.stderr, level=os.environ.get("SAMPAN_PROVIDER_LOG", "CRITICAL"))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS), options=GRPC_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    serve(server)


if __name__ == "__main__":
    main(sys.argv[1:])
