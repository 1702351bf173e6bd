"""The executables that the Pulumi CLI looks for by name, each a line of shell that starts this checkout's Python.

Where they are decides whether the CLI warns of them. It looks for a language host and for the dynamic provider beside
the program file that it runs itself from, and for the provider of a resource in $PULUMI_HOME/plugins; whatever it
finds on PATH instead it uses with a warning at every update. So a CLI that lacks its companions is hard-linked (or
copied) into the folder of the launchers, and one that has them is linked there by name.
The launchers say nothing of a checkout: SAMPAN_PYTHON and PYTHONPATH do, so that several share one cache.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

LANGUAGE_HOST = "pulumi-language-python"
DYNAMIC_PROVIDER = "pulumi-resource-pulumi-python"
LIBVIRT_PROVIDER = "pulumi-resource-libvirt"
PROVIDER_CHOICE = "SAMPAN_LIBVIRT_PROVIDER"  # a path: the upstream provider, used in place of ours
MODULES = {
    LANGUAGE_HOST: "infra.toolchain.language_host",
    DYNAMIC_PROVIDER: "infra.toolchain.dynamic_plugin",
    LIBVIRT_PROVIDER: "infra.provider",
}


def script(name: str) -> str:
    """The launcher's text. SIGINT is ignored until Python has set its own handler: no traceback from a start."""
    choice = (
        f'[ -z "${{{PROVIDER_CHOICE}:-}}" ] || exec "${PROVIDER_CHOICE}" "$@"\n' if name == LIBVIRT_PROVIDER else ""
    )
    return (
        "#!/bin/sh\n"
        "trap '' INT\n"
        f"{choice}"
        'exec "${SAMPAN_PYTHON:?is not set: run eval \\"\\$(./sampan toolchain --shell)\\" first}" '
        f'-P -u -m {MODULES[name]} "$@"\n'
    )


def companions(pulumi: Path) -> tuple[str, ...]:
    """Which of the official executables that belong beside a CLI are there."""
    folder = pulumi.resolve().parent
    return tuple(name for name in (LANGUAGE_HOST, DYNAMIC_PROVIDER) if _is_official(folder / name))


def install(pulumi: Path, folder: Path) -> None:
    """Make `folder` hold a `pulumi` and the launchers that it needs; what is right already is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "pulumi"
    missing = [name for name in (LANGUAGE_HOST, DYNAMIC_PROVIDER) if name not in companions(pulumi)]
    if pulumi != place:
        if missing:
            _put_copy(pulumi.resolve(), place)
        else:
            _put_link(pulumi.resolve(), place)
            for name in (LANGUAGE_HOST, DYNAMIC_PROVIDER):  # of an earlier CLI
                (folder / name).unlink(missing_ok=True)
    for name in (*missing, LIBVIRT_PROVIDER):
        write(folder / name)


def _is_official(file: Path) -> bool:
    if not os.access(file, os.X_OK):
        return False
    with file.open("rb") as content:
        return b"SAMPAN_PYTHON" not in content.read(1024)


def install_plugin(pulumi_home: Path) -> None:
    """Our provider as an installed plugin, of the version that the SDK asks for."""
    version = metadata.version("pulumi-libvirt")
    write(pulumi_home / "plugins" / f"resource-libvirt-v{version}" / LIBVIRT_PROVIDER)


def write(file: Path) -> None:
    text = script(file.name)
    if file.exists() and not file.is_symlink() and file.read_text() == text and os.access(file, os.X_OK):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".new-", delete=False) as new:
        new.write(text)
    Path(new.name).chmod(0o755)
    Path(new.name).rename(file)  # another command may be starting it right now


def _put_link(target: Path, place: Path) -> None:
    if place.is_symlink() and place.readlink() == target:
        return
    new = _unused(place)
    new.symlink_to(target)
    new.rename(place)


def _put_copy(target: Path, place: Path) -> None:
    if place.exists() and not place.is_symlink():
        ours, theirs = place.stat(), target.stat()
        if os.path.samestat(ours, theirs) or (ours.st_size, ours.st_mtime) == (theirs.st_size, theirs.st_mtime):
            return
    new = _unused(place)
    try:
        os.link(target, new)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(target, new)
    new.rename(place)


def _unused(place: Path) -> Path:
    return place.with_name(f".new-{place.name}-{os.getpid()}")
