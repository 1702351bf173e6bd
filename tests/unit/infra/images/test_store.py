"""The image store without chance: names and times that Podman chose are replaced by derived ones."""

from __future__ import annotations

import json
from pathlib import Path

from infra.images import store


def made_by_podman(folder: Path, link: str, created: str) -> Path:
    layer = folder / "overlay/aa11"
    (layer / "diff/bin").mkdir(parents=True)
    (layer / "diff/bin/sh").write_text("#!")
    (layer / "link").write_text(link)
    (folder / "overlay/l").mkdir()
    (folder / "overlay/l" / link).symlink_to("../aa11/diff")
    for part in ("overlay-layers", "overlay-images", "libpod", "volumes"):
        (folder / part).mkdir()
    (folder / "overlay-layers/layers.json").write_text(json.dumps([{"id": "aa11", "created": created}]))
    (folder / "overlay-layers/layers.lock").write_bytes(link.encode())
    (folder / "db.sql").write_bytes(created.encode())
    return folder


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_two_loads_of_one_image_give_one_store(tmp_path: Path) -> None:
    stores = [
        made_by_podman(tmp_path / "a", "NT4U34MW5D2CDKDKVCAOTIAMET", "2026-01-01T00:00:00.1Z"),
        made_by_podman(tmp_path / "b", "GG33QSKQGU35GKMQMWDQSJD5DC", "2026-02-02T00:00:00.2Z"),
    ]
    for folder in stores:
        store.settle(folder)
    assert content(stores[0]) == content(stores[1])


def test_the_layer_is_still_found_by_its_link(tmp_path: Path) -> None:
    folder = made_by_podman(tmp_path / "a", "NT4U34MW5D2CDKDKVCAOTIAMET", "2026-01-01T00:00:00.1Z")
    store.settle(folder)
    link = (folder / "overlay/aa11/link").read_text()
    assert len(link) == 26
    assert (folder / "overlay/l" / link / "bin/sh").read_text() == "#!"
    assert not (folder / "db.sql").exists()
