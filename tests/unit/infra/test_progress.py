"""What is said of a long step, and to whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SPEAKING = """
import sys, threading
from infra.progress import Steps
sys.stdin.read()
show = Steps()
speaker = threading.Thread(target=lambda: [show.note("a line"), print("went on", flush=True)])
with show.step("a step"):
    speaker.start()
    speaker.join()
"""


def test_work_goes_on_where_nobody_reads_any_more() -> None:
    command = [sys.executable, "-c", SPEAKING]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as speaking:  # type: ignore[call-overload]
        assert speaking.stderr is not None
        speaking.stderr.close()
        speaking.stderr = None
        said, _ = speaking.communicate("", timeout=60)
    assert (said, speaking.returncode) == ("went on\n", 0)
