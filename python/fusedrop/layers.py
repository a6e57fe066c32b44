"""Layers: they hold parameters, gradients and the step counter, and leave the arithmetic to the functions.

Every layer has forward(x, train=True), backward(dy) for its last forward call, `params` and `grads` (dictionaries
of arrays), and parameters() for an optimiser. layer(x) is layer.forward(x). Each backward call overwrites the
gradients in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusedrop import checks, functions
from fusedrop.naming import MaskName

# Of a layer's inputs: gathering a larger share costs what it saves (bench/bench_unit.py, the chain).
WORTH_GATHERING = 0.92
RELU_LIKE = ("relu", "gelu", "gelu_tanh", "silu")


class Parameter:
    """A named view of a layer's parameter and its gradient; reads the layer each time, so it never goes stale."""

    __slots__ = ("_key", "_layer", "name")

    def __init__(self, layer: Layer, key: str, name: str):
        self._layer, self._key, self.name = layer, key, name

    @property
    def value(self) -> np.ndarray:
        """The layer's own array: change it in place."""
        return self._layer.params[self._key]

    @property
    def grad(self) -> np.ndarray:
        """What the last backward call wrote, the shape of `value`."""
        return self._layer.grads[self._key]

    def under(self, prefix: str) -> Parameter:
        """The same parameter, named prefix.name: how a network names its layers' parameters."""
        return Parameter(self._layer, self._key, f"{prefix}.{self.name}")

    def __repr__(self):
        return f"Parameter({self.name}, shape={self.value.shape}, dtype={self.value.dtype})"


class Layer:
    """What all layers share."""

    params: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]

    def __init__(self):
        self.params, self.grads = {}, {}
        self._saved: Any = None  # what the last forward call leaves for backward

    def __getstate__(self):
        """A copy, or a pickle, has the parameters, gradients and place in the mask, not the last forward call."""
        return self.__dict__ | {"_saved": None}

    def forward(self, x, train=True):
        raise NotImplementedError

    def backward(self, dy, input_grad=True):
        raise NotImplementedError

    def forward_known(self, x, train, kept_inputs):
        """forward for a caller that knows which columns of x are not zero; returns (y, the same of y).

        Each is a bool array over the last axis, or None for nothing known, which is what this method answers.
        """
        return self.forward(x, train), None

    def overrides(self, layer_type) -> bool:
        """Whether this object has methods of its own: what `layer_type` knows of zeros then need not hold."""
        own = type(self)
        same = own.forward is layer_type.forward and own.backward is layer_type.backward
        return not same or "forward" in vars(self)

    def __call__(self, x, train=True, **options):
        """forward, with the options that a layer's own forward has."""
        return self.forward(x, train, **options)

    def parameters(self) -> list[Parameter]:
        """The layer's parameters with their gradients, for an optimiser or a loop of your own."""
        return [Parameter(self, key, key) for key in self.params]

    def to(self, convert: Callable[[Any], Any]) -> Layer:
        """Hold every parameter and gradient as `convert` makes it of the present one; returns the layer.

        net.to(lambda a: torch.from_numpy(a).cuda()) moves a network to a GPU: forward and backward then take and
        return tensors there. Optimisers of this package stay on the CPU; PyTorch's take `parameters()`.
        """
        for leaf in self.leaves():
            for arrays in (leaf.params, leaf.grads):
                arrays.update({key: convert(value) for key, value in arrays.items()})
        return self

    def leaves(self) -> Iterator[Layer]:
        """This layer, or the layers it is made of."""
        yield self

    def _last_forward(self):
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward call first")
        return self._saved


class TrainedLayer(Layer):
    """What the layers with parameters and dropout share: parameters drawn late, a rate that may change.

    Args:
        dropout, seed, stream: as in `Linear`.
    """

    def __init__(self, dropout, seed, stream):
        self.dropout = dropout
        self.mask_name = MaskName(seed, stream)
        self._params: dict[str, np.ndarray] | None = None
        self._grads: dict[str, np.ndarray] | None = None
        self._saved = None

    def _draw(self) -> dict[str, np.ndarray]:
        """The initial parameters, from `mask_name`'s weight generator."""
        raise NotImplementedError

    @property
    def dropout(self) -> float:
        """Probability of dropping an element while training; may be set between any two calls."""
        return self._dropout

    @dropout.setter
    def dropout(self, p: float):
        self._dropout = checks.probability(p, "dropout")

    @property
    def params(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The parameters by name; drawn at the first use, when a network has given the layer its place."""
        if self._params is None:
            self._params = self._draw()
        return self._params

    @property
    def grads(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The gradients of the last backward call, under the keys of `params`."""
        if self._grads is None:
            self._grads = {key: np.zeros(value.shape, value.dtype) for key, value in self.params.items()}
        return self._grads


class FusedLayer(TrainedLayer):
    """What the layers with a weight, a bias and the dropout of inputs and outputs inside share.

    Args:
        weight_shape: [N, ...]; the fan-in is the product of the dots.
        fan_out: N times the places where an input takes part, for init="xavier".
        others: as in `Linear`.
    """

    def __init__(self, weight_shape, fan_out, *, bias, activation, dropout, input_dropout, dtype, init, seed, stream):
        self.bias = checks.flag(bias, "bias")
        self.activation = activation
        self.dtype = checks.floating_dtype(dtype)
        self.input_dropout = input_dropout
        super().__init__(dropout, seed, stream)
        self._weight_shape = weight_shape
        self._std = _initial_std(init, activation, math.prod(weight_shape[1:]), fan_out)

    def _draw(self):
        weight = self.mask_name.weight_generator().standard_normal(self._weight_shape, np.float64) * self._std
        drawn = {"weight": weight.astype(self.dtype)}
        if self.bias:
            drawn["bias"] = np.zeros(self._weight_shape[0], self.dtype)
        return drawn

    @property
    def input_dropout(self) -> float:
        """Probability of dropping an input while training."""
        return self._input_dropout

    @input_dropout.setter
    def input_dropout(self, p: float):
        self._input_dropout = checks.probability(p, "input_dropout")

    def _options(self) -> str:
        """What the representation says beside the sizes."""
        options = f", activation={self.activation!r}" if self.activation != "identity" else ""
        options += f", dropout={self.dropout}" if self.dropout else ""
        return options + (f", input_dropout={self.input_dropout}" if self.input_dropout else "")


class Linear(FusedLayer):
    """y = dropout(activation(x wᵀ + b)), fused.

    Args:
        in_features, out_features: K and N.
        bias: False for a layer without b.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        dropout: probability of dropping an output while training; `layer.dropout = 0.3` sets it on the live layer.
        dropout_before_activation: y = activation(dropout(x wᵀ + b)).
        input_dropout: probability of dropping an input while training, inside the matmul.
        granularity: "element", or "unit" for one decision per output and call.
        dtype: float32, float64 or bfloat16 (its gradients are bfloat16 too).
        init: "he" (std sqrt(2 / K)), "xavier" (std sqrt(2 / (K + N))), a number (the std itself), or None: "he"
            for relu and its kin, std 1 / sqrt(K) for the others. Weights are normal, biases 0.
        seed, stream: name the masks, and the seed draws the weights; see `MaskName`.

    params: "weight" [N, K], "bias" [N]. grads: the same keys. Changing params in place, or replacing an array by
    one of its shape, takes effect at the next call: nothing derived from them is kept.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: str = "identity",
        dropout: float = 0.0,
        dropout_before_activation: bool = False,
        input_dropout: float = 0.0,
        granularity: str = "element",
        dtype: Any = "float32",
        init: str | float | None = None,
        seed: int | None = None,
        stream: int | None = None,
    ):
        self.in_features = checks.size(in_features, "in_features")
        self.out_features = checks.size(out_features, "out_features")
        super().__init__(
            (self.out_features, self.in_features),
            self.out_features,
            bias=bias,
            activation=activation,
            dropout=dropout,
            input_dropout=input_dropout,
            dtype=dtype,
            init=init,
            seed=seed,
            stream=stream,
        )
        self.granularity = granularity
        self.dropout_before_activation = dropout_before_activation
        self._check()

    def _check(self):
        """Wrong options fail here, not at the first batch: the functions check them on an empty batch."""
        empty = np.empty((0, 0), self.dtype)
        functions.linear(
            empty,
            empty,
            activation=self.activation,
            dropout_before_activation=self.dropout_before_activation,
            granularity=self.granularity,
        )

    def forward(self, x, train=True, *, residual=None, kept_inputs=None):
        """y [M, N] of x [M, K], plus `residual` [M, N] if given; train=False: no masks, no scale.

        kept_inputs: bool [K], False for columns of x that are known to be 0: they cost nothing. See `linear_forward`.
        """
        following = self.mask_name.following(train)
        y, self._saved = functions.linear_forward(
            x,
            self.params["weight"],
            self.params.get("bias"),
            activation=self.activation,
            p=self._dropout if train else 0.0,
            rng=self.mask_name.rng,
            dropout_before_activation=self.dropout_before_activation,
            input_p=self._input_dropout if train else 0.0,
            residual=residual,
            granularity=self.granularity,
            kept_inputs=kept_inputs,
        )
        self.mask_name.rng = following
        return y

    def forward_known(self, x, train, kept_inputs):
        if self.overrides(Linear):
            return super().forward_known(x, train, kept_inputs)
        if train and self.input_dropout and self.granularity == "element":
            kept_inputs = None  # the function has no use for both
        elif isinstance(kept_inputs, np.ndarray) and np.count_nonzero(kept_inputs) > WORTH_GATHERING * len(kept_inputs):
            kept_inputs = None
        y = self.forward(x, train, kept_inputs=kept_inputs)
        return y, self._saved.kept_outputs

    def backward(self, dy, input_grad=True):
        """dx [M, K] (None where input_grad is False) for dy [M, N]; fills `grads`. A residual's gradient is dy."""
        saved, grads = self._last_forward(), self.grads
        dx, dw, db = checks.flag(input_grad, "input_grad"), grads["weight"], grads.get("bias", False)
        return functions.linear_backward(dy, saved, dx=dx, dw=dw, db=db)[0]

    def __repr__(self):
        return f"Linear({self.in_features}, {self.out_features}{self._options()})"


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
