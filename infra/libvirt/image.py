"""Which image a lab's machines boot: the one that it was made from, as long as it lives, else the present one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infra.images.vm import VmImage, vm_image
from infra.libvirt import registry


def of_lab(name: str, say: Callable[[str], None]) -> VmImage:
    """Builds the present one where the lab has none (yet); that takes a minute or two, once."""
    known = registry.read(name)
    if known is not None and known.image:
        return VmImage(
            disk=Path(known.image["disk"]),
            kernel=Path(known.image["kernel"]),
            initrd=Path(known.image["initrd"]),
            cmdline=known.image["cmdline"],
            size_bytes=int(known.image["size_bytes"]),
        )
    return vm_image(say)


def noted(image: VmImage) -> dict[str, str]:
    """For lab.json."""
    return {name: str(value) for name, value in vars(image).items()}
