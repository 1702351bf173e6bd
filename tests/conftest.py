"""What holds for all tests: property tests are not timed, for a busy machine is no fault."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sampan", deadline=None)
settings.load_profile("sampan")
