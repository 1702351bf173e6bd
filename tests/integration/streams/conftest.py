"""The fixture of this folder, for pytest to find."""

from tests.integration.streams.harness import streams

__all__ = ["streams"]
