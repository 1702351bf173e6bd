"""The figures of a lab of virtual machines, as ratios on one machine in one run.

    python -m tests.benchmarks.machines

Run by hand on a quiet machine with toolchain and image built. Prints seconds, and of `up` how often the time in which
guests of the same image, as many and as large, reach SSH by themselves.
Targets: up of 1 + 1 to Ready ≤ 1.3 × boot, up without change ≤ 3 s, restore of 1 + 2 until pods serve ≤ 10 s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.integration.vm.own import BOOT_S, site

SAMPAN = str(Path(__file__).resolve().parents[2] / "sampan")
NAME = "benchvm"


def seconds(*command: str) -> float:
    """What it says on the way is shown, each line with the second in which it was said."""
    start = time.monotonic()
    with subprocess.Popen([SAMPAN, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            print(f"  {time.monotonic() - start:6.1f} {line.rstrip()}", file=sys.stderr)
    assert running.returncode == 0, f"{' '.join(command)}: exit code {running.returncode}"
    return time.monotonic() - start


def boot() -> float:
    """Two guests from power-on until SSH answers on both."""
    with site(workers=1) as made, ThreadPoolExecutor() as pool:
        start = time.monotonic()
        guests = [made.start(node, vcpus=2)[0] for node in made.place.nodes]
        list(pool.map(lambda guest: guest.wait(BOOT_S, lambda words: None), guests))
        took = time.monotonic() - start
        for guest in guests:
            guest.close()
    return took


def show(what: str, took: float, more: str = "") -> None:
    print(f"{what:48} {took:7.1f} s {more}", flush=True)


def main() -> None:
    alone = boot()
    show("two guests by themselves, power-on to SSH", alone)
    with TemporaryDirectory() as folder:
        lab = ("--name", NAME, "--kubeconfig", f"{folder}/kubeconfig")
        try:
            took = seconds("up", "--backend", "libvirt", "--workers", "1", *lab)
            show("up of 1 + 1 until all nodes are Ready", took, f"{took / alone:.2f} × boot")
            show("up without change", min(seconds("up", *lab) for _ in range(3)))
            seconds("up", "--workers", "2", *lab)
            kubectl = ["kubectl", f"--kubeconfig={folder}/kubeconfig"]
            subprocess.run([*kubectl, "create", "deployment", "web", "--image=nginx:1", "--replicas=3"], check=True)
            subprocess.run([*kubectl, "rollout", "status", "deployment/web", "--timeout=300s"], check=True)
            show("save of 1 + 2", seconds("snapshot", "save", "--name", NAME, "calm"))
            show("restore of 1 + 2 until pods serve", seconds("snapshot", "restore", "--name", NAME, "calm"))
        finally:
            show("down", seconds("down", "--name", NAME))


if __name__ == "__main__":
    main()
