"""The lock files hold what pyproject.toml asks for, name no registry, and agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall((ROOT / lock).read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.lock", [*PROJECT["dependencies"], *EXTRAS["lab"]]),
        ("requirements-vm.lock", [*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["vm"]]),
        ("requirements-dev.lock", [*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["vm"], *EXTRAS["dev"]]),
    ],
)
def test_a_lock_has_what_is_asked_for(lock: str, requirements: list[str]) -> None:
    locked = pins(lock)
    for requirement in map(Requirement, requirements):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in {lock}: compile it again (its first lines say how)"
        assert all(requirement.specifier.contains(version) for version in versions), (requirement, versions)


def test_the_locks_agree() -> None:
    development = pins("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-vm.lock"):
        assert all(development[name] == versions for name, versions in pins(lock).items())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-vm.lock", "requirements-dev.lock"])
def test_no_registry_is_named(lock: str) -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", (ROOT / lock).read_text())
