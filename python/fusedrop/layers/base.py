"""Base classes of the layers: parameters, gradients, dropout rates and the mask key.

Every layer has forward(x, train=True), backward(dy) for its last forward call, `params` and `grads` (dictionaries
of arrays), and parameters() for an optimizer. layer(x) is layer.forward(x). Each backward call overwrites the
gradients in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np

from fusedrop import checks
from fusedrop.layers.mask_key import MaskKey

RELU_LIKE = ("relu", "gelu", "gelu_tanh", "silu")


class Parameter:
    """A named view of a layer's parameter and its gradient. Each access reads the layer: replaced arrays are seen."""

    __slots__ = ("_key", "_layer", "name")

    def __init__(self, layer: Layer, key: str, name: str):
        self._layer, self._key, self.name = layer, key, name

    @property
    def value(self) -> np.ndarray:
        """The layer's own array: change it in place."""
        return self._layer.params[self._key]

    @property
    def grad(self) -> np.ndarray:
        """The gradient that the last backward call wrote, the shape of `value`."""
        return self._layer.grads[self._key]

    def under(self, prefix: str) -> Parameter:
        """The same parameter under the name prefix.name, as a network names its layers' parameters."""
        return Parameter(self._layer, self._key, f"{prefix}.{self.name}")

    def __repr__(self):
        return f"Parameter({self.name}, shape={self.value.shape}, dtype={self.value.dtype})"


class Layer:
    """Base of all layers.

    params, grads: the parameters and their gradients by name; empty for a layer without parameters.
    scheduled_rate: the name of the attribute that a dropout schedule sets, where the layer has it.
    """

    params: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    scheduled_rate: str = "p"
    _context: Any  # what the last forward call saved for backward; None before the first

    def __init__(self):
        self.params, self.grads, self._context = {}, {}, None

    def __getstate__(self):
        """A copy or a pickle has the parameters, the gradients and the mask key, not the last forward call."""
        return self.__dict__ | {"_context": None}

    def forward(self, x, train=True):
        raise NotImplementedError

    def backward(self, dy, input_grad=True):
        raise NotImplementedError

    def forward_sparse(self, x, train, active_inputs):
        """Like forward, but skips input columns known to be zero: (y, the mask of possibly non-zero columns of y).

        Both masks are bool arrays over the last axis, or None where nothing is known. This default ignores its mask.
        """
        return self.forward(x, train), None

    def overrides(self, layer_type) -> bool:
        """Whether this object replaces forward or backward of `layer_type`, whose rules for zeros then may not hold."""
        own = type(self)
        same = own.forward is layer_type.forward and own.backward is layer_type.backward
        return not same or "forward" in vars(self)

    def __call__(self, x, train=True, **options):
        """forward(x, train), with the further options that a layer's forward has."""
        return self.forward(x, train, **options)

    def parameters(self) -> list[Parameter]:
        """The layer's parameters with their gradients, for an optimizer or a loop of your own."""
        return [Parameter(self, key, key) for key in self.params]

    def to(self, convert: Callable[[Any], Any]) -> Layer:
        """Replace every parameter and gradient by convert(array); returns the layer.

        net.to(lambda a: torch.from_numpy(a).cuda()) moves a network to a GPU: forward and backward then take and
        return tensors there. Optimizers of this package run on the CPU; PyTorch's take `parameters()`.
        """
        for leaf in self.leaves():
            for arrays in (leaf.params, leaf.grads):
                arrays.update({key: convert(value) for key, value in arrays.items()})
        return self

    def leaves(self) -> Iterator[Layer]:
        """This layer, or the layers inside it, depth first."""
        yield self

    def _last_forward(self):
        if self._context is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward call first")
        return self._context


class Rate:
    """A dropout rate as an attribute of a layer, checked when it is set: a number in [0, 1].

    It may be set between any two calls, at no cost: `layer.p = 0.3`. The rate of a forward call is also the rate of its
    backward call.
    """

    def __init__(self, doc: str):
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._attribute = name, f"_{name}"

    @overload
    def __get__(self, layer: None, owner: type) -> Rate: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> float: ...
    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer, self._attribute)

    def __set__(self, layer: Any, p: float) -> None:
        setattr(layer, self._attribute, checks.probability(p, self._name))


class ParametricLayer(Layer):
    """Base of the layers with parameters: parameters initialized at their first use, and a mask key.

    Args:
        seed, stream: as in `Linear`.
    """

    mask_key: MaskKey

    def __init__(self, seed: int | None, stream: int | None):
        self.mask_key = MaskKey(seed, stream)
        self._params: dict[str, np.ndarray] | None = None
        self._grads: dict[str, np.ndarray] | None = None
        self._context = None

    def _initial_params(self) -> dict[str, np.ndarray]:
        """The initial parameters, from the weight generator of `mask_key`."""
        raise NotImplementedError

    @property
    def params(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The parameters by name. The first use initializes them: a network has set the layer's seed by then."""
        if self._params is None:
            self._params = self._initial_params()
        return self._params

    @property
    def grads(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The gradients of the last backward call, under the keys of `params`."""
        if self._grads is None:
            self._grads = {key: np.zeros(value.shape, value.dtype) for key, value in self.params.items()}
        return self._grads


class FusedLayer(ParametricLayer):
    """Base of the layers with a weight, a bias, and dropout of inputs and outputs inside the kernel.

    Args:
        weight_shape: [N, ...]; the fan-in is the product of all sizes but N.
        fan_out: number of outputs that one input takes part in, for init="xavier".
        others: as in `Linear`.
    """

    p = Rate("Probability of dropping an output while training.")
    input_p = Rate("Probability of dropping an input while training.")

    def __init__(self, weight_shape, fan_out, *, bias, activation, p, input_p, dtype, init, seed, stream):
        self.bias = checks.flag(bias, "bias")
        self.activation = activation
        self.dtype = checks.floating_dtype(dtype)
        self.input_p, self.p = input_p, p
        super().__init__(seed, stream)
        self._weight_shape = weight_shape
        self._std = _initial_std(init, activation, math.prod(weight_shape[1:]), fan_out)

    def _initial_params(self):
        weight = self.mask_key.weight_generator().standard_normal(self._weight_shape, np.float64) * self._std
        params = {"weight": weight.astype(self.dtype)}
        if self.bias:
            params["bias"] = np.zeros(self._weight_shape[0], self.dtype)
        return params

    def _options(self) -> str:
        """The options in the text of repr, after the sizes."""
        options = f", activation={self.activation!r}" if self.activation != "identity" else ""
        options += f", p={self.p}" if self.p else ""
        return options + (f", input_p={self.input_p}" if self.input_p else "")


def _initial_std(init, activation, fan_in, fan_out):
    if init is None:
        init = "he" if activation in RELU_LIKE else 1 / math.sqrt(max(fan_in, 1))
    if init == "he":
        return math.sqrt(2 / max(fan_in, 1))
    if init == "xavier":
        return math.sqrt(2 / max(fan_in + fan_out, 1))
    wanted = "'he', 'xavier', a finite standard deviation >= 0 or None"
    if isinstance(init, (str, bool)):
        raise ValueError(f"init must be {wanted}; got {init!r}")
    return checks.number(init, "init", wanted)
