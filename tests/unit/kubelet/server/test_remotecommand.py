"""How a command ended, as clients are told."""

import pytest

from orchestrator.api import status
from orchestrator.kubelet.runtime.streaming import start_failure
from orchestrator.kubelet.server.remotecommand import Options, exit_status, failure_status, parse_options
from orchestrator.kubelet.server.websocketchannels import parse_size


def test_an_exit_code_is_a_cause() -> None:
    assert exit_status(0) == {"metadata": {}, "status": "Success"}
    found = exit_status(3)
    assert (found["status"], found["reason"]) == ("Failure", "NonZeroExitCode")
    assert found["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert failure_status("no")["reason"] == "InternalError"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"output": "1", "error": "1"}, Options(stdout=True, stderr=True)),
        ({"input": "1", "output": "1", "error": "1", "tty": "1"}, Options(stdin=True, stdout=True, tty=True)),
    ],
)
def test_options(query: dict[str, str], wanted: Options) -> None:
    assert parse_options(query) == wanted


def test_no_stream_at_all() -> None:
    with pytest.raises(status.BadRequest):
        parse_options({"tty": "1"})


@pytest.mark.parametrize(
    ("first", "failure"),
    [
        (
            b"Error: crun: executable file `x` not found in $PATH: OCI runtime attempted to invoke a command that was "
            b"not found\nError: read unixpacket: connection reset by peer\n",
            "executable file `x` not found in $PATH: OCI runtime attempted to invoke a command that was not found",
        ),
        (b"Error: crun: is a word that a program may print\n", ""),
        (b"", ""),
    ],
)
def test_podmans_own_complaint_is_no_output(first: bytes, failure: str) -> None:
    assert start_failure(first) == failure


@pytest.mark.parametrize(
    ("content", "size"), [(b'{"Width":80,"Height":24}', (80, 24)), (b"{}", None), (b"x", None), (b"[]", None)]
)
def test_sizes(content: bytes, size: tuple[int, int] | None) -> None:
    assert parse_size(content) == size
