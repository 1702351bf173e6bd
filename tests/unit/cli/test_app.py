"""The command line of a node's `sampan`: what is wrong is said in one line, with the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.app import main, parser


@pytest.mark.parametrize("command", ["scheduler", "server", "node"])
def test_missing_settings_are_named(tmp_path: Path, command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--config", str(tmp_path / "none")])
    assert str(ended.value).startswith(f"sampan: {tmp_path}/none")
    assert str(ended.value).endswith("No such file or directory")


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "scheduler.yaml").write_text("colour: blue\n")
    with pytest.raises(SystemExit, match=r"sampan: .*scheduler\.yaml: unknown setting 'colour'"):
        main(["scheduler", "--config", str(tmp_path / "scheduler.yaml")])


@pytest.mark.parametrize(
    "arguments", [[], ["kublet"], ["store"], ["kubelet", "--log-level", "loud"], ["node", "--conf=x"]]
)
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: sampan" in capsys.readouterr().err


def test_every_component_has_a_command_and_its_own_settings() -> None:
    given = parser().parse_args(["kubelet"])
    assert given.config == Path("/etc/sampan/kubelet.yaml")
    assert parser().parse_args(["server"]).config == Path("/etc/sampan")
