"""What users read of errors that came out of processes that Pulumi started."""

from __future__ import annotations

import pytest

from infra.toolchain import dynamic_plugin, python_packages
from infra.toolchain.errors import ToolchainError

LOCK = "pulumi==3.272.0 \\\n    --hash=sha256:aa\npulumi-libvirt==0.5.4 \\\nfabric==3.2.3 \\\n"


class WrongNode(ValueError):
    pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(ToolchainError("disk full", "free some"), "disk full\nFree some", id="ours"),
        pytest.param(WrongNode("node x: gone"), "node x: gone", id="a-subclass-of-the-program"),
        pytest.param(ValueError("invalid literal"), None, id="a-mistake"),
        pytest.param(KeyError("name"), None, id="another-mistake"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_an_error_that_was_raised_for_the_user_is_told_without_a_traceback(
    error: BaseException | None, words: str | None
) -> None:
    assert dynamic_plugin.words(error) == words


def formatted(error: Exception) -> str:
    try:
        raise error
    except Exception:
        return dynamic_plugin.format_exc()


def test_a_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPAN_TRACE", raising=False)
    assert formatted(ToolchainError("disk full", "free some")) == "disk full\nFree some"
    assert formatted(KeyError("name")).startswith("Traceback")


def test_a_trace_that_is_asked_for_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_TRACE", "1")
    assert formatted(ToolchainError("disk full", "free some")).startswith("Traceback")


@pytest.mark.parametrize(
    ("installed", "missing"),
    [
        pytest.param({"pulumi": "3.272.0", "pulumi-libvirt": "0.5.4", "fabric": "3.2.3"}, [], id="all-there"),
        pytest.param(
            {"fabric": "3.2.3"}, ["pulumi==3.272.0", "pulumi-libvirt==0.5.4"], id="an-environment-of-the-local-lab"
        ),
        pytest.param(
            {"pulumi": "3.100.0", "pulumi-libvirt": "0.5.4", "fabric": "3.2.3"}, ["pulumi==3.272.0"], id="an-older-one"
        ),
    ],
)
def test_which_python_packages_are_missing(installed: dict[str, str], missing: list[str]) -> None:
    assert python_packages.lacking(LOCK, installed.get) == missing


def test_the_lock_names_all_that_is_needed() -> None:
    assert set(python_packages.NEEDED) <= set(python_packages.pinned(python_packages.LOCK.read_text()))
