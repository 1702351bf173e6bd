from __future__ import annotations

from pathlib import Path

import pytest

from infra.images import sources

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        pytest.param(DEB822, "http://mirror.example/debian", id="deb822"),
        pytest.param("deb http://m.example/debian/ trixie main\n", "http://m.example/debian", id="one-line"),
        pytest.param("deb [arch=amd64 signed-by=/k] https://m.example/d sid main", "https://m.example/d", id="options"),
        pytest.param("# deb http://m.example/debian trixie main\n", None, id="commented-out"),
        pytest.param("deb http://m.example/debian-security stable-security main", None, id="security-alone"),
        pytest.param("deb https://vendor.example/apt cloud main", None, id="another-vendor"),
        pytest.param("Types: deb-src\nURIs: http://m.example/d\nSuites: sid", None, id="source-packages"),
        pytest.param("Types: deb\nEnabled: no\nURIs: http://m.example/d\nSuites: sid", None, id="disabled"),
    ],
)
def test_the_mirror_is_the_machines_own(text: str, mirror: str | None) -> None:
    assert sources.pick(sources.archives(text)) == mirror


def test_no_mirror_says_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb https://vendor.example/apt cloud main\n")
    with pytest.raises(LookupError, match=r"sources\.list"):
        sources.debian_mirror(tmp_path)
