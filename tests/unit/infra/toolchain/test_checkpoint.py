from __future__ import annotations

from pathlib import Path

import pytest

from infra.toolchain import checkpoint


@pytest.mark.parametrize(
    ("state", "before", "recovered", "after"),
    [
        pytest.param('{"n": 2}', '{"n": 1}', False, '{"n": 2}', id="whole"),
        pytest.param("", '{"n": 1}', True, '{"n": 1}', id="emptied"),
        pytest.param('{"n":', '{"n": 1}', True, '{"n": 1}', id="cut-short"),
        pytest.param("", None, True, None, id="the-first-write"),
        pytest.param(None, None, False, None, id="no-stack"),
    ],
)
def test_a_state_that_was_half_written_is_put_back(
    tmp_path: Path, state: str | None, before: str | None, recovered: bool, after: str | None
) -> None:
    file = tmp_path / ".pulumi/stacks/sampan/a.json"
    file.parent.mkdir(parents=True)
    for target, text in ((file, state), (file.with_name("a.json.bak"), before)):
        if text is not None:
            target.write_text(text)
    assert checkpoint.recover(f"file://{tmp_path}", "sampan", "a") is recovered
    assert (file.read_text() if file.exists() else None) == after


def test_another_kind_of_backend_is_left_alone() -> None:
    assert checkpoint.recover("s3://bucket", "sampan", "a") is False


def test_attributes_that_were_half_written_go(tmp_path: Path) -> None:
    folder = tmp_path / ".pulumi/stacks/sampan"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "a.json.attrs").write_text("")
    (folder / "a.json.bak.attrs").write_text("{}")
    assert checkpoint.recover(f"file://{tmp_path}", "sampan", "a") is True
    assert sorted(file.name for file in folder.iterdir()) == ["a.json", "a.json.bak.attrs"]
    assert checkpoint.recover(f"file://{tmp_path}", "sampan", "a") is False
