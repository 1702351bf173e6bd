"""A tmpfs below a volume's folder, mounted once by the porter: secrets are never written to a disk."""

from __future__ import annotations

from pathlib import Path

from orchestrator.kubelet.volumes.volume import Place


async def folder(place: Place, plugin: str, name: str, size_bytes: int = 0, mode: str = "0755") -> Path:
    """The volume's folder, in memory."""
    path = place.dirs.volume(plugin, name)
    if path.is_mount():
        return path
    options = (mode,)
    return Path(await place.porter.mount(place.key, name, "tmpfs", "", size_bytes, options))
