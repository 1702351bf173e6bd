"""The image of ours, read by a few lines that follow the standard on their own."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from infra.provider.iso import SECTOR, image

names = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=20)


def read(data: bytes) -> tuple[str, dict[str, bytes]]:
    """ECMA-119: the label at 8.4.7, the root's record at 8.4.18, a record's fields at 9.1."""
    descriptor = data[16 * SECTOR :]
    assert descriptor[:7] == b"\1CD001\1"
    root, size = struct.unpack_from("<I4xI", descriptor, 156 + 2)
    found, position, directory = {}, 0, data[root * SECTOR : root * SECTOR + size]
    while position < size and (length := directory[position]):
        record = directory[position : position + length]
        sector, file_bytes = struct.unpack_from("<I4xI", record, 2)
        identifier = record[33 : 33 + record[32]]
        if not record[25] & 2:
            assert (sector, file_bytes) == struct.unpack_from(">I4xI", record, 6)  # both orders say the same
            found[identifier.decode().lower().removesuffix(";1").removesuffix(".")] = data[sector * SECTOR :][
                :file_bytes
            ]
        position += length
    return descriptor[40:72].decode().rstrip(), found


@given(st.dictionaries(names, st.binary(max_size=5000), max_size=6))
def test_what_is_written_is_read(files: dict[str, bytes]) -> None:
    data = image("cidata", files)
    assert read(data) == ("cidata", files)
    assert len(data) % SECTOR == 0
    assert struct.unpack_from("<I", data, 16 * SECTOR + 80)[0] == len(data) // SECTOR


def test_the_same_files_make_the_same_image() -> None:
    assert image("a", {"x": b"1", "y": b"2"}) == image("a", {"y": b"2", "x": b"1"})
