from __future__ import annotations

from xml.etree import ElementTree

import pytest

from infra.libvirt import sweep
from infra.provider import marks

URN = "urn:pulumi:dev::sampan::libvirt:index/domain:Domain::worker-1"


@pytest.mark.parametrize(
    ("urn", "is_ours"),
    [
        pytest.param(URN, True, id="of-this-stack"),
        pytest.param(URN.replace(":dev::", ":dev2::"), False, id="of-a-stack-whose-name-begins-alike"),
        pytest.param(URN.replace("::sampan::", "::other::"), False, id="of-another-project"),
    ],
)
def test_only_what_carries_this_stacks_mark_is_ours(urn: str, is_ours: bool) -> None:
    root = ElementTree.fromstring("<domain><name>a-worker-1</name></domain>")
    marks.put(root, urn)
    assert sweep.is_ours(marks.text_of(root), "urn:pulumi:dev::sampan::") is is_ours


def test_what_carries_no_mark_is_not() -> None:
    assert not sweep.is_ours("<domain><name>a-worker-1</name></domain>", "urn:pulumi:dev::sampan::")
