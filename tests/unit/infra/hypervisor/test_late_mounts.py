"""Which of the host's mounts a libvirtd of ours does not have."""

from __future__ import annotations

import pytest

from infra.hypervisor.late_mounts import missing

ROOT = "20 1 254:0 / / rw - ext4 /dev/vda rw\n"
DATA = "30 20 8:1 / /data rw shared:1 - ext4 /dev/sdb rw\n"


@pytest.mark.parametrize(
    ("ours", "room", "places"),
    [
        pytest.param(ROOT, ROOT, [], id="the-same"),
        pytest.param(ROOT + DATA, ROOT, ["/data"], id="mounted-since"),
        pytest.param(ROOT + DATA, ROOT + DATA.replace("30 20", "99 20"), [], id="numbers-differ"),
        pytest.param(ROOT + DATA.replace("8:1", "8:2"), ROOT + DATA, ["/data"], id="another-disk-there"),
        pytest.param(ROOT, ROOT + DATA, [], id="unmounted-since"),
        pytest.param(ROOT + "31 20 0:5 / /run/user rw - tmpfs t rw\n", ROOT, [], id="no-place-for-disks"),
        pytest.param(ROOT + "31 20 0:5 / /x/merged rw - overlay overlay rw\n", ROOT, [], id="a-containers-root"),
        pytest.param(ROOT + "31 20 0:5 / /running rw - tmpfs t rw\n", ROOT, ["/running"], id="a-like-name"),
        pytest.param(ROOT + DATA.replace("/data", "/a\\040b"), ROOT, ["/a b"], id="a-space"),
        pytest.param(
            ROOT + DATA + "31 30 8:3 / /data/more rw - ext4 /dev/sdc rw\n", ROOT, ["/data", "/data/more"], id="nested"
        ),
    ],
)
def test_missing(ours: str, room: str, places: list[str]) -> None:
    assert missing(ours, room) == places
