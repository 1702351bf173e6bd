"""Keys and certificates as Pulumi resources: made once, kept as secrets in the stack's state, renewed when they must.

One resource has the authority, what belongs to no node, and the key that opens the lab's machines; one for each node
has that node's. So a node that comes or goes leaves the keys of the others alone, and a preview knows them.
`files` maps names (as infra/pki.py has them; `ssh`, `ssh.pub` in OpenSSH's format) to text.
Inputs are the subjects alone: who may change a lab's names sees in the preview which certificates follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pulumi
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra import pki
from infra.pki import Subject

SSH = "ssh"
AUTHORITY = ("ca.crt", "ca.key")


def made(props: Mapping[str, Any], existing: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Every file that `props` ask for, those that exist and are still good unchanged."""
    have = {name: text.encode() for name, text in existing.items()}
    authority = {name: text.encode() for name, text in (props.get("authority") or {}).items()}
    found = {} if authority else pki.authority(have, now)
    subjects = [_subject(data) for data in props["subjects"]]
    found |= pki.issue(subjects, authority or found, have, now)
    if {SSH, f"{SSH}.pub"} <= have.keys():
        found |= {name: have[name] for name in (SSH, f"{SSH}.pub")}
    else:
        found |= ssh_pair()
    return {name: content.decode() for name, content in found.items()}


def ssh_pair() -> dict[str, bytes]:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return {SSH: private, f"{SSH}.pub": public}


def data(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    return [asdict(subject) for subject in subjects]


def _subject(values: Mapping[str, Any]) -> Subject:
    lists = {name: tuple(values[name] or ()) for name in ("organizations", "names", "addresses")}
    authority = values.get("authority") or pki.CA
    return Subject(file=values["file"], common_name=values["common_name"], authority=authority, **lists)


class KeysProvider(ResourceProvider):
    serialize_as_secret_always = False  # the class is imported where it runs; nothing is captured

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        if isinstance(news.get("authority"), str):  # unknown: the authority itself is made anew
            return DiffResult(changes=True)
        existing = dict(olds.get("files") or {})
        return DiffResult(changes=made(news, existing, datetime.now(UTC)) != existing)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("keys", {**props, "files": made(props, {}, datetime.now(UTC))})

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        files = made(news, dict(olds.get("files") or {}), datetime.now(UTC))
        return UpdateResult({**news, "files": files})


class Keys(Resource, module="sampan", name="Keys"):
    files: pulumi.Output[dict[str, str]]

    def __init__(
        self,
        name: str,
        subjects: Sequence[Subject],
        authority: pulumi.Input[Mapping[str, str]] | None,
        options: pulumi.ResourceOptions,
    ) -> None:
        """`authority`: ca.crt and ca.key of the one that signs; None: an authority of its own."""
        secret = pulumi.ResourceOptions(additional_secret_outputs=["files"])
        props = {"subjects": data(subjects), "authority": authority, "files": None}
        super().__init__(KeysProvider(), name, props, pulumi.ResourceOptions.merge(options, secret))
