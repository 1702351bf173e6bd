"""A container's last words: its termination message file, or the end of its log where the policy says so.

At most 4096 bytes of the file; of the log at most 80 lines or 2048 bytes, and only after a failure without a message.
Source: Kubernetes docs, "Determine the Reason for Pod Failure".
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import ContainerState

MESSAGE_MAX_BYTES = 4096
LOG_MAX_BYTES, LOG_MAX_LINES = 2048, 80
LOG_READ_BYTES = 64 * 1024


def message_of(container: Container, state: ContainerState, dirs: PodDirs) -> str:
    text = _tail(dirs.termination_log(state.name, state.attempt), MESSAGE_MAX_BYTES)
    if text or container.get("terminationMessagePolicy") != "FallbackToLogsOnError" or state.exit_code == 0:
        return text
    lines = [_line(line) for line in _tail(dirs.log(state.name, state.attempt), LOG_READ_BYTES).splitlines()]
    return "\n".join(lines[-LOG_MAX_LINES:])[-LOG_MAX_BYTES:]


def _line(line: str) -> str:
    """The text of one line of a CRI log: after time, stream and tag."""
    parts = line.split(" ", 3)
    return parts[3] if len(parts) == 4 else line


def _tail(file: Path, bytes_max: int) -> str:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - bytes_max))
            return opened.read(bytes_max).decode(errors="replace")
    except OSError:
        return ""
