from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from infra.images.archive import Copy, Directory, Image, Link, Text, layer_bytes, write


def members(layer: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return {member.name: member for member in archive}


def test_a_layer_belongs_to_root_and_repeats_byte_for_byte(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o755)
    files = {
        "/": Directory(),
        "/bin/p": Copy(program),
        "/bin/q": Link("p"),
        "/etc/t": Text("hi"),
        "/tmp": Directory(0o1777),
    }
    layer = layer_bytes(files)
    found = members(layer)
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert found["bin/p"].mode == 0o755
    assert found["bin/q"].linkname == "p"
    assert found["tmp"].mode == 0o1777
    assert layer == layer_bytes(files)


def test_a_directory_is_copied_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").write_text("x")
    (tmp_path / "link").symlink_to("inner/file")
    found = members(layer_bytes({"/data": Copy(tmp_path)}))
    assert found["data/inner/file"].isfile()
    assert found["data/link"].issym()


def test_an_archive_is_what_podman_load_reads(tmp_path: Path) -> None:
    image = Image(names=("sampan.local/a:1", "b:1"), files={"/f": Text("x")}, command=("sh",), ports=("80/tcp",))
    write(image, "amd64", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        data = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    (manifest,) = json.loads(data["manifest.json"])
    assert manifest["RepoTags"] == ["sampan.local/a:1", "b:1"]
    config = json.loads(data[manifest["Config"]])
    assert manifest["Config"] == f"{hashlib.sha256(data[manifest['Config']]).hexdigest()}.json"
    assert config["config"]["Cmd"] == ["sh"]
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}
    layer = hashlib.sha256(data[manifest["Layers"][0]]).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer}"]
