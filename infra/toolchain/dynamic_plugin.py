"""`pulumi-resource-pulumi-python`: serves dynamic resources, those whose provider is a class of the program itself.

The SDK has the server. Added are a process that ends as a plugin must (plugin_process), and errors in their own words:
the SDK answers each exception with a traceback, which would bury what an error of ours says to the user. Exceptions
that nobody raised on purpose keep theirs, and SAMPAN_TRACE brings back all of them.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback

from infra.toolchain.plugin_process import end_with_parent

EXPECTED = (RuntimeError, ValueError)  # whose subclasses we raise for users; the bare ones come from mistakes

_format = traceback.format_exc


def words(error: BaseException | None) -> str | None:
    """What the user should read of an expected error; None for any other."""
    if error is None or not isinstance(error, EXPECTED) or type(error).__module__ == "builtins":
        return None
    return str(error)


def format_exc(limit: int | None = None, chain: bool = True) -> str:
    said = None if os.environ.get("SAMPAN_TRACE") else words(sys.exc_info()[1])
    return _format(limit, chain) if said is None else said


def main() -> None:
    end_with_parent()
    traceback.format_exc = format_exc  # the one call in the SDK's server whose result goes to the engine
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
