"""Types of the CUDA module: kernels for a GPU, which `fusedrop._core` calls. The public interface is the package."""

from typing import Any

backend: Any
"""A capsule around the table of kernels: `_core.register_device` takes it."""

def state() -> str: ...
def device_identity(device: int) -> str: ...
def emulated() -> bool: ...
