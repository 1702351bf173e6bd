"""A volume from a file, copied where libvirtd's files are this machine's and else sent through the connection; and one
that grows under a running domain."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provider.calls.small_engine import Failed, Resource

New = Callable[..., Resource]
CONTENT = bytes(range(256)) * 12288  # 3 MiB: several pieces of a connection's messages


@pytest.fixture
def pool(resource: New, tmp_path: Path) -> Path:
    resource("Pool", "pool").up({"name": "pool", "type": "dir", "target": {"path": str(tmp_path / "pool")}})
    return tmp_path / "pool"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "served/content.raw"
    made.parent.mkdir()
    made.write_bytes(CONTENT)
    return made


@pytest.fixture
def server(file: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(file.parent))
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_from_a_file(resource: New, pool: Path, file: Path) -> None:
    volume = resource("Volume", "v")
    assert volume.up({"name": "v", "pool": "pool", "source": str(file)}) == "create"
    assert (pool / "v").read_bytes() == CONTENT
    assert (pool / "v").stat().st_mode & 0o777 == 0o600
    assert (volume.outputs["format"], volume.outputs["size"]) == ("raw", len(CONTENT))
    file.unlink()  # once made, it is not needed again
    assert volume.up({"name": "v", "pool": "pool", "source": str(file)}) == "same"


def test_from_a_server_and_bigger(resource: New, pool: Path, server: str) -> None:
    volume = resource("Volume", "v")
    inputs = {"name": "v", "pool": "pool", "source": f"{server}/content.raw", "size": 8 << 20}
    assert volume.up(inputs) == "create"
    data = (pool / "v").read_bytes()
    assert (data[: len(CONTENT)], len(data)) == (CONTENT, 8 << 20)
    assert volume.up(inputs) == "same"


def test_it_grows_while_a_domain_runs_with_it(resource: New, pool: Path, connection: Any, words: list[str]) -> None:
    """QEMU holds the file: the domain's own disk grows, and its guest sees it."""
    volume, domain = resource("Volume", "v"), resource("Domain", "dom")
    volume.up({"name": "v", "pool": "pool", "size": 4 << 20})
    domain.up({"name": "dom", "type": "qemu", "memory": 64, "disks": [{"volumeId": volume.id}]})
    run = connection.lookupByName("dom").ID()
    assert volume.up({"name": "v", "pool": "pool", "size": 9 << 20}) == "update"
    assert volume.diff == {"size": "update"}
    capacity, _allocation, _physical = connection.lookupByName("dom").blockInfo("vda")
    assert (capacity, connection.lookupByName("dom").ID()) == (9 << 20, run)
    assert volume.outputs["size"] == 9 << 20
    assert "volume v grows to 9437184 bytes while dom runs; its guest sees it at once" in words
    with pytest.raises(Failed, match=r"volume v: size 4194304 is smaller than the 9437184 it has.*only grows"):
        volume.up({"name": "v", "pool": "pool", "size": 4 << 20})
    assert volume.up({"name": "v", "pool": "pool", "size": 9 << 20}) == "same"


def test_a_server_that_has_it_not(resource: New, pool: Path, server: str) -> None:
    with pytest.raises(Failed, match=r"volume v from http://.*/none: .* cannot be fetched: File not found"):
        resource("Volume", "v").up({"name": "v", "pool": "pool", "source": f"{server}/none"})
    assert list(pool.iterdir()) == []


def test_another_format_than_the_files(resource: New, pool: Path, file: Path) -> None:
    with pytest.raises(Failed, match=r"format qcow2 is asked, and the file is raw"):
        resource("Volume", "v").up({"name": "v", "pool": "pool", "source": str(file), "format": "qcow2"})
    assert list(pool.iterdir()) == []
