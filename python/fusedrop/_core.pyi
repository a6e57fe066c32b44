"""Types of the compiled module. The public interface, with its documentation, is the package itself."""

from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, final

from numpy.typing import NDArray

from fusedrop.cuda import DevicePhilox

__version__: str
activations: tuple[str, ...]

@final
class Philox:
    def __init__(
        self,
        seed: SupportsIndex,
        stream: SupportsIndex = 0,
        step: SupportsIndex = 0,
        row0: SupportsIndex = 0,
        col0: SupportsIndex = 0,
        repeat: SupportsIndex = 1,
        period: SupportsIndex | None = None,
    ) -> None: ...
    @property
    def seed(self) -> int: ...
    @property
    def stream(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def row0(self) -> int: ...
    @property
    def col0(self) -> int: ...
    @property
    def repeat(self) -> int: ...
    @property
    def period(self) -> int | None: ...
    def next(self) -> Philox: ...
    def at(self, row0: SupportsIndex = 0, col0: SupportsIndex = 0) -> Philox: ...
    def tied(self, repeat: SupportsIndex = 1, period: SupportsIndex | None = None) -> Philox: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Saved:
    @property
    def x(self) -> NDArray[Any]: ...
    @property
    def w(self) -> NDArray[Any]: ...
    @property
    def kind(self) -> Literal["y", "z", "nothing"]: ...
    @property
    def kept(self) -> NDArray[Any] | None: ...
    @property
    def kept_outputs(self) -> NDArray[Any] | None: ...

def linear_forward(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None,
    activation: str,
    p: float,
    rng: Philox | DevicePhilox | None,
    dropout_before_activation: bool,
    input_p: float,
    residual: NDArray[Any] | None,
    granularity: str,
    kept_inputs: NDArray[Any] | None,
    out: NDArray[Any] | None,
    save: bool,
) -> Any: ...

@final
class Conv2dSaved:
    @property
    def x(self) -> NDArray[Any]: ...
    @property
    def w(self) -> NDArray[Any]: ...

def conv2d_forward(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    channels_last: bool,
    activation: str,
    p: float,
    rng: Philox | None,
    dropout_before_activation: bool,
    input_p: float,
    granularity: str,
    save: bool,
) -> Any: ...
def conv2d_backward(
    dy: NDArray[Any],
    saved: Conv2dSaved,
    dx: bool | NDArray[Any],
    dw: bool | NDArray[Any],
    db: bool | NDArray[Any],
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]: ...
def restore_saved(
    x: NDArray[Any],
    w: NDArray[Any],
    kept: NDArray[Any] | None,
    has_bias: bool,
    activation: str,
    p: float,
    rng: Philox | DevicePhilox | None,
    dropout_before_activation: bool,
    input_p: float,
    has_residual: bool,
    granularity: str,
) -> Saved: ...
def linear_backward(
    dy: NDArray[Any],
    saved: Saved,
    dx: bool | NDArray[Any],
    dw: bool | NDArray[Any],
    db: bool | NDArray[Any],
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]: ...

@final
class LSTMSaved: ...

def lstm_forward(
    x: NDArray[Any],
    w_ih: NDArray[Any],
    w_hh: NDArray[Any],
    b: NDArray[Any] | None,
    h0: NDArray[Any] | None,
    c0: NDArray[Any] | None,
    input_p: float,
    recurrent_p: float,
    rng: Philox | None,
    time_constant: bool,
    gate_masks: bool | None,
    return_sequences: bool,
) -> tuple[NDArray[Any], tuple[NDArray[Any], NDArray[Any]], LSTMSaved]: ...
def lstm_backward(
    dy: NDArray[Any],
    saved: LSTMSaved,
    dh: NDArray[Any] | None,
    dc: NDArray[Any] | None,
    dx: bool | NDArray[Any],
    dw_ih: bool | NDArray[Any],
    dw_hh: bool | NDArray[Any],
    db: bool | NDArray[Any],
) -> tuple[NDArray[Any] | None, ...]: ...
def dropout(
    x: NDArray[Any], p: float, rng: Philox | DevicePhilox | None, granularity: str, scaling: str
) -> NDArray[Any]: ...
def dropout_mask(
    shape: int | Sequence[int],
    p: float,
    rng: Philox | DevicePhilox | None,
    granularity: str,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def activate(x: NDArray[Any], activation: str) -> NDArray[Any]: ...
def activate_backward(dy: NDArray[Any], x: NDArray[Any], activation: str) -> NDArray[Any]: ...
def softmax_cross_entropy(
    logits: NDArray[Any], labels: NDArray[Any] | None, target: NDArray[Any] | None
) -> tuple[float, NDArray[Any]]: ...
def sgd_step(
    parameters: Sequence[tuple[Any, ...]], lr: float, momentum: float, nesterov: bool, l1: float, l2: float
) -> None: ...
def adam_step(
    parameters: Sequence[tuple[Any, ...]],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    l1: float,
    l2: float,
    step: int,
) -> None: ...

@final
class PoolSaved:
    @property
    def positions(self) -> NDArray[Any] | None: ...

def pool_forward(
    x: NDArray[Any],
    maximum: bool,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    channels_last: bool,
) -> tuple[NDArray[Any], PoolSaved]: ...
def pool_backward(dy: NDArray[Any], maximum: bool, saved: PoolSaved) -> NDArray[Any]: ...
def available_isas() -> list[str]: ...
def isa() -> str: ...
def use_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def fma_peak(dtype: str, seconds: float) -> float: ...
