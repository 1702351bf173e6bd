"""Files in the lab's folder for those who use it: its kubeconfig and the key that opens its machines, 0600, and the
host keys by which these are known. They follow from the keys in Pulumi's state and are written again when they differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Each whole or not at all, and never readable by others on the way."""
    for name, text in files.items():
        new = folder / f".{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        new.rename(folder / name)


def present(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / name).exists() and (folder / name).read_text() == text for name, text in files.items())


class AccessProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(olds.get(key) != news[key] for key in ("folder", "files")))

    def create(self, props: dict[str, Any]) -> CreateResult:
        write(Path(props["folder"]), props["files"])
        return CreateResult("access", props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_ if present(Path(props["folder"]), props["files"]) else "", props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        write(Path(news["folder"]), news["files"])
        return UpdateResult(news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        for name in props["files"]:
            Path(props["folder"], name).unlink(missing_ok=True)


class Access(Resource, module="sampan", name="Access"):
    def __init__(
        self, name: str, folder: Path, files: Mapping[str, pulumi.Input[str]], options: pulumi.ResourceOptions
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["files"])
        props = {"folder": str(folder), "files": pulumi.Output.secret(dict(files))}
        super().__init__(AccessProvider(), name, props, pulumi.ResourceOptions.merge(options, secret))
