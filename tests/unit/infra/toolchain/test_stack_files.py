from __future__ import annotations

from pathlib import Path

import pytest

from infra.toolchain import stack_files

OURS = (
    "stacks/sampan/a.json",
    "stacks/sampan/a.json.attrs",
    "stacks/sampan/a.json.bak",
    "stacks/sampan/a.json.bak.attrs",
    "stacks/sampan/a.json.18a1f0c2d3e4b5a6.tmp",
    "stacks/sampan/a.json.bak.18a1f0c2d3e4b5a6.tmp",
    "stacks/sampan/a.json.gz",
    "stacks/sampan/a.pulumi-tags",
    "history/sampan/a/a-1.history.json",
    "history/sampan/a/a-1.checkpoint.json.attrs",
    "backups/sampan/a/a.1.json",
    "locks/organization/sampan/a/1.json",
)
OTHERS = (
    "stacks/sampan/ab.json",
    "stacks/sampan/a.b.json",
    "stacks/sampan/b.json.bak",
    "stacks/other/a.json",
    "history/sampan/ab/ab-1.history.json",
    "history/other/a/a-1.history.json",
    "meta.yaml",
)


def lay(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        file = root / ".pulumi" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")


def files(root: Path) -> set[str]:
    return {str(file.relative_to(root / ".pulumi")) for file in root.rglob("*") if file.is_file()}


def test_everything_of_a_stack_is_forgotten_and_nothing_of_another(tmp_path: Path) -> None:
    lay(tmp_path, (*OURS, *OTHERS))
    stack_files.forget(f"file://{tmp_path}", "sampan", "a")
    assert files(tmp_path) == set(OTHERS)
    assert stack_files.forget(f"file://{tmp_path}", "sampan", "a") == []


@pytest.mark.parametrize("name", OURS)
def test_each_of_them_is_found_alone_and_leaves_no_folder_of_the_project(tmp_path: Path, name: str) -> None:
    lay(tmp_path, (name,))
    (found,) = stack_files.forget(f"file://{tmp_path}", "sampan", "a")
    assert (tmp_path / ".pulumi" / name).is_relative_to(found)
    assert not list(tmp_path.rglob("sampan"))


def test_another_kind_of_backend_has_no_files() -> None:
    assert stack_files.stack_file("s3://bucket", "sampan", "a") is None
    assert stack_files.forget("s3://bucket", "sampan", "a") == []
