from __future__ import annotations

from pathlib import Path

import pytest

from infra import host

PLACE = Path("/var/lib/sampan-labs")


@pytest.mark.parametrize(
    "mounts",
    [
        pytest.param("/dev/vda / ext4 rw 0 0\n", id="an-ordinary-root"),
        pytest.param("overlay / overlay rw 0 0\n/dev/sdb /var/lib/sampan-labs xfs rw 0 0\n", id="a-volume-of-its-own"),
        pytest.param("/dev/vda / ext4 rw 0 0\noverlay /var/lib/other overlay rw 0 0\n", id="an-overlay-elsewhere"),
    ],
)
def test_a_file_system_that_carries_nodes(mounts: str) -> None:
    host.check_file_system(mounts, PLACE)


def test_an_overlay_on_an_overlay_is_refused_with_the_way_out() -> None:
    with pytest.raises(host.HostError, match=r"/var/lib/sampan-labs is on an overlay .*mounted at /\)"):
        host.check_file_system("overlay / overlay rw 0 0\n", PLACE)
