"""The process's own metrics, from /proc: time, memory, files, start. Source: Prometheus' client libraries."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_SELF = Path("/proc/self")
_START_FIELD, _VIRTUAL_FIELD, _RESIDENT_FIELD = 19, 20, 21  # of /proc/self/stat, after the command's name


def process_metrics() -> Iterator[str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    boot_s = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime")
    start_s = boot_s + int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
    resident = int(fields[_RESIDENT_FIELD]) * os.sysconf("SC_PAGE_SIZE")
    files = sum(1 for _ in (_SELF / "fd").iterdir())
    for name, kind, meaning, value in (
        ("cpu_seconds_total", "counter", "Processor time, user and system.", used.ru_utime + used.ru_stime),
        ("resident_memory_bytes", "gauge", "Memory that is in use.", resident),
        ("virtual_memory_bytes", "gauge", "Memory that is mapped.", int(fields[_VIRTUAL_FIELD])),
        ("start_time_seconds", "gauge", "When the process began, since the epoch.", start_s),
        ("open_fds", "gauge", "Files that are open.", files),
        ("max_fds", "gauge", "Files that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ):
        yield f"# HELP process_{name} {meaning}"
        yield f"# TYPE process_{name} {kind}"
        yield f"process_{name} {value:.15g}"
