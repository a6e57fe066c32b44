"""Types of the CUDA module: the functions of `_core` for arrays on a GPU. The public interface is the package."""

from typing import Any, Literal, final

from fusedrop._core import Philox
from fusedrop.cuda import DevicePhilox

def state() -> str: ...
def emulated() -> bool: ...
def tf32() -> bool: ...
def use_tf32(on: bool) -> None: ...

@final
class Saved:
    @property
    def x(self) -> Any: ...
    @property
    def w(self) -> Any: ...
    @property
    def kind(self) -> Literal["y", "z", "nothing"]: ...
    @property
    def kept(self) -> Any: ...
    @property
    def kept_outputs(self) -> Any: ...

def linear_forward(
    x: Any,
    w: Any,
    b: Any,
    activation: str,
    p: float,
    rng: Philox | DevicePhilox | None,
    dropout_before_activation: bool,
    input_p: float,
    residual: Any,
    granularity: str,
    kept_inputs: Any,
    out: Any,
    save: bool,
) -> Any: ...
def restore_saved(
    x: Any,
    w: Any,
    kept: Any,
    has_bias: bool,
    activation: str,
    p: float,
    rng: Philox | DevicePhilox | None,
    dropout_before_activation: bool,
    input_p: float,
    has_residual: bool,
    granularity: str,
) -> Saved: ...
def linear_backward(dy: Any, saved: Saved, dx: Any, dw: Any, db: Any) -> tuple[Any, Any, Any]: ...
def dropout(x: Any, p: float, rng: Philox | DevicePhilox | None, granularity: str, scaling: str) -> Any: ...
def dropout_mask(shape: Any, p: float, rng: Philox | DevicePhilox | None, granularity: str, out: Any) -> Any: ...
def activate(x: Any, activation: str) -> Any: ...
def activate_backward(dy: Any, x: Any, activation: str) -> Any: ...
