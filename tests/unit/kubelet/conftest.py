"""The fixture of this folder, for pytest to find."""

from tests.unit.kubelet.machine import machine

__all__ = ["machine"]
