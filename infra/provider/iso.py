"""A small ISO 9660 image: a few files in its root, a label, and nothing that differs from one run to the next.

No Rock Ridge and no Joliet: Linux (and BSD) show plain names in lower case, so `USER-DATA.;1` is read as `user-data`.
Layout in sectors of 2 KiB: 16 of system area, the volume descriptor, its terminator, two path tables, the root
directory, the files. Source: ECMA-119, sections 6 to 9.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

SECTOR = 2048
SYSTEM_AREA = 16 * SECTOR
PATH_TABLE_LITTLE, PATH_TABLE_BIG, ROOT, FIRST_FILE = 18, 19, 20, 21  # sectors
EPOCH = bytes((70, 1, 1, 0, 0, 0, 0))  # 1970-01-01 00:00:00 UTC, as a directory record has it (9.1.5)
LONG_EPOCH = b"1970010100000000\0"
NO_DATE = b"0" * 16 + b"\0"


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """The whole image. File names of at most 30 characters; the root directory is one sector (some 40 files)."""
    entries = sorted((f"{name.upper()}.;1".encode(), content) for name, content in files.items())
    records, contents, sector = b"", b"", FIRST_FILE
    for identifier, content in entries:
        records += _record(identifier, sector, len(content), flags=0)
        contents += _padded(content)
        sector += max(1, -(-len(content) // SECTOR))
    root = _record(b"\0", ROOT, SECTOR, flags=2) + _record(b"\1", ROOT, SECTOR, flags=2) + records
    if len(root) > SECTOR:
        raise ValueError(f"{len(files)} files do not fit into the one sector of the root directory")
    path_table = b"\1\0" + struct.pack("<IH", ROOT, 1) + b"\0\0"
    path_table_big = b"\1\0" + struct.pack(">IH", ROOT, 1) + b"\0\0"
    return b"".join(
        (
            bytes(SYSTEM_AREA),
            _padded(_descriptor(label, sector, len(path_table))),
            _padded(b"\xffCD001\1"),
            _padded(path_table),
            _padded(path_table_big),
            _padded(root),
            contents,
        )
    )


def _descriptor(label: str, sectors: int, path_table_bytes: int) -> bytes:
    """The primary volume descriptor (8.4), field by field."""
    blank = b" " * 128
    return b"".join(
        (
            b"\1CD001\1\0",
            b" " * 32,
            label.encode().ljust(32),
            bytes(8),
            _both32(sectors),
            bytes(32),
            _both16(1) + _both16(1) + _both16(SECTOR),
            _both32(path_table_bytes),
            struct.pack("<II", PATH_TABLE_LITTLE, 0) + struct.pack(">II", PATH_TABLE_BIG, 0),
            _record(b"\0", ROOT, SECTOR, flags=2),
            blank * 4,  # volume set, publisher, preparer, application
            b" " * 37 * 3,  # copyright, abstract, bibliographic file
            LONG_EPOCH * 2 + NO_DATE * 2,
            b"\1\0",
        )
    )


def _record(identifier: bytes, sector: int, size: int, *, flags: int) -> bytes:
    """A directory record (9.1), of even length."""
    body = b"".join(
        (
            b"\0",
            _both32(sector),
            _both32(size),
            EPOCH,
            bytes((flags, 0, 0)),
            _both16(1),
            bytes((len(identifier),)),
            identifier,
            b"\0" if len(identifier) % 2 == 0 else b"",
        )
    )
    return bytes((len(body) + 1,)) + body


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)


def _padded(data: bytes) -> bytes:
    """To whole sectors; an empty file has one as well, so that no two files begin at one place."""
    return data + bytes(-len(data) % SECTOR) if data else bytes(SECTOR)
