from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra import kubeconfig


def config(name: str, server: str = "https://s") -> kubeconfig.Config:
    return {
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def names(found: kubeconfig.Config) -> list[str]:
    return [entry["name"] for entry in found["contexts"]]


def test_a_lab_joins_what_is_there_and_becomes_current() -> None:
    found = kubeconfig.merged(config("mine"), config("sampan-a"))
    assert names(found) == ["mine", "sampan-a"]
    assert found["current-context"] == "sampan-a"


def test_a_lab_replaces_its_own_entries_only() -> None:
    once = kubeconfig.merged(config("mine"), config("sampan-a", "https://old"))
    again = kubeconfig.merged(once, config("sampan-a", "https://new"))
    assert [entry["cluster"]["server"] for entry in again["clusters"]] == ["https://s", "https://new"]


def test_removing_gives_back_what_was_there_but_the_choice() -> None:
    mine = config("mine")
    found = kubeconfig.without(kubeconfig.merged(mine, config("sampan-a")), "sampan-a")
    assert names(found) == ["mine"]
    assert found["current-context"] == ""


def test_a_missing_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep/config"
    kubeconfig.add(file, config("sampan-a"))
    assert file.stat().st_mode & 0o777 == 0o600
    kubeconfig.remove(file, "a")
    assert yaml.safe_load(file.read_text())["contexts"] == []


def test_a_file_without_the_lab_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("# mine\ncontexts: []\n")
    kubeconfig.remove(file, "a")
    assert file.read_text().startswith("# mine")


def test_what_is_no_kubeconfig_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("- a list\n")
    with pytest.raises(ValueError, match="is no kubeconfig"):
        kubeconfig.add(file, config("sampan-a"))


def test_the_first_file_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    assert kubeconfig.default_file() == Path("/a")


def test_every_file_that_got_the_context_loses_it(tmp_path: Path) -> None:
    noted, files = tmp_path / "noted", [tmp_path / "one", tmp_path / "two"]
    for file in (*files, files[0]):
        kubeconfig.share(config("sampan-a"), file, noted)
    assert noted.read_text().splitlines() == [str(file) for file in files]
    files[0].unlink()  # the user's to do
    kubeconfig.withdraw("a", noted)
    assert "sampan-a" not in files[1].read_text()
    assert not files[0].exists()
    kubeconfig.withdraw("b", tmp_path / "never noted")
