from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.client.kubeconfig import KubeconfigError, load


def write(path: Path, cluster: dict[str, Any], user: dict[str, Any], current: str = "lab") -> Path:
    config = {
        "current-context": current,
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def test_data_may_be_inline_or_in_files(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(b"CERT")
    (tmp_path / "client.key").write_bytes(b"KEY")
    cluster = {"server": "https://[fd00::1]:6443/", "certificate-authority-data": base64.b64encode(b"CA").decode()}
    access = load(write(tmp_path, cluster, {"client-certificate": "client.pem", "client-key": "client.key"}))
    assert (access.server, access.ca) == ("https://[fd00::1]:6443", b"CA")
    assert (access.certificate, access.key, access.namespace) == (b"CERT", b"KEY", "shop")


def test_tokens_and_their_files(tmp_path: Path) -> None:
    access = load(write(tmp_path, {"server": "http://h"}, {"token": "t", "tokenFile": "token"}))
    assert (access.token, access.token_file) == ("t", tmp_path / "token")


@pytest.mark.parametrize(
    ("cluster", "user", "current", "message"),
    [
        pytest.param({}, {}, "lab", "has no server", id="no-server"),
        pytest.param({"server": "http://h"}, {}, "other", "no context named 'other'", id="no-such-context"),
        pytest.param(
            {"server": "http://h"}, {"client-certificate": "x.pem"}, "lab", "client-certificate", id="no-file"
        ),
        pytest.param({"server": "h", "certificate-authority-data": "%"}, {}, "lab", "not base64", id="no-base64"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], current: str, message: str
) -> None:
    with pytest.raises(KubeconfigError, match=message):
        load(write(tmp_path, cluster, user, current))
