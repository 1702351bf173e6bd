"""Whose programs the gateway uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cloud import programs
from orchestrator.cloud.programs import PacketFilter
from orchestrator.cloud.provider import CloudError


def test_the_hosts_own_nft_counts_from_when_it_is_there(tmp_path: Path) -> None:
    packet_filter = PacketFilter(str(tmp_path))
    assert packet_filter.command == ("nft",)
    program = tmp_path / "usr/sbin/nft"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    assert packet_filter.command == ("chroot", str(tmp_path), "nft")
    assert PacketFilter().command == ("nft",)


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(CloudError, match="no-such-program is not installed"):
        await programs.run(["no-such-program"])


async def test_a_failure_has_the_programs_words_in_one_line() -> None:
    with pytest.raises(CloudError) as caught:
        await programs.run(["sh", "-c", "echo 'first words' >&2; echo more >&2; exit 3"])
    assert str(caught.value).endswith(": first words")
    assert await programs.run(["sh", "-c", "echo out; exit 1"], may_fail=True) == "out\n"


def test_addresses_are_made_usable_at_once_and_never_a_source() -> None:
    assert programs.address_lines("br0", ["10.0.0.1", "fd00::1"], ["10.0.0.2"]) == [
        "address del 10.0.0.2/32 dev br0",
        "address replace 10.0.0.1/32 dev br0",
        "address replace fd00::1/128 dev br0 nodad preferred_lft 0",
    ]
