from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from infra.images import cache, wheel

FILES = {"orchestrator/__init__.py": b"", "orchestrator/cli.py": b"print('hello')\n", "templates/a.j2": b"{{ a }}\n"}
PROJECT = {"name": "sampan", "description": "short", "requires-python": ">=3.11", "dependencies": ["rich>=15"]}


def entries() -> dict[str, bytes]:
    return wheel.contents(FILES, "sampan-1+ab.dist-info", wheel.metadata(PROJECT, "1+ab"))


def test_equal_files_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    wheel.write(tmp_path / "one.whl", entries())
    wheel.write(tmp_path / "two.whl", dict(reversed(entries().items())))
    assert (tmp_path / "one.whl").read_bytes() == (tmp_path / "two.whl").read_bytes()


def test_its_record_names_every_file_with_its_hash(tmp_path: Path) -> None:
    wheel.write(tmp_path / "one.whl", entries())
    with zipfile.ZipFile(tmp_path / "one.whl") as archive:
        rows = list(csv.reader(io.StringIO(archive.read("sampan-1+ab.dist-info/RECORD").decode())))
        assert {row[0] for row in rows} == set(archive.namelist())
        for name, digest, _ in rows:
            if digest:
                wanted = urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={wanted}", name


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({**FILES, "templates/a.j2": b"{{ b }}\n"}, id="a-template"),
        pytest.param({**FILES, "infra/x.py": b""}, id="one-file-more"),
        pytest.param({"orchestrator/__init__.py": b"", "orchestrator/cli.py": b""}, id="one-file-less"),
    ],
)
def test_any_difference_gives_another_version(other: dict[str, bytes]) -> None:
    assert wheel.content_hash(FILES, "") != wheel.content_hash(other, "")


def test_ours_has_code_and_templates_and_pip_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = wheel.wheel()
    assert made == wheel.wheel()
    with zipfile.ZipFile(made) as archive:
        names = set(archive.namelist())
    assert {"orchestrator/cli/__init__.py", "infra/cli.py", "templates/components/kubelet.yaml.j2"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert made.parent.parent == cache.folder()
    command = [*(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")]
    subprocess.run([*command, str(tmp_path / "site"), str(made)], check=True, capture_output=True)
    assert (tmp_path / "site/templates/components/kubelet.yaml.j2").exists()
