"""Sequential: a network of layers, each applied to the output of the one before it."""

from __future__ import annotations

from collections.abc import Iterator

from fusedrop._core import Philox
from fusedrop.layers.base import Layer, Parameter


class Sequential(Layer):
    """y = last(...(first(x))).

    The layers get streams by position (nested ones depth first). A layer's own stream= has precedence, and no other
    layer gets its number. With seed=, a network has the same initial weights and masks in every run and process.
    Without seed=, layers keep their own seeds.

    Args:
        layers: in the order of their calls.
        seed: for all layers that were not given one. Weights that are already in use stay as they are.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(self, *layers: Layer, seed: int | None = None):
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{position}] must be a fusedrop layer; got {type(layer).__name__}")
        self._context = None
        self.layers = list(layers)
        self._refuse_repeated()
        self._number_streams(seed)

    def _refuse_repeated(self):
        """A layer's second forward call would overwrite what the first call's backward needs."""
        seen: set[int] = set()
        for position, layer in enumerate(self.layers):
            leaves = {id(leaf) for leaf in layer.leaves()}
            if leaves & seen:
                raise ValueError(f"layers[{position}] must not be in the network already; got {layer} twice")
            seen |= leaves

    def _number_streams(self, seed):
        if seed is not None:
            Philox(seed)  # checks the seed, also where no layer needs one
        keys = [leaf.mask_key for leaf in self.leaves() if hasattr(leaf, "mask_key")]
        taken = {key.rng.stream for key in keys if key.stream_given}
        free = (number for number in range(len(keys) + len(taken)) if number not in taken)
        for key in keys:
            key.place(seed, key.rng.stream if key.stream_given else next(free))

    def leaves(self) -> Iterator[Layer]:
        for layer in self.layers:
            yield from layer.leaves()

    @property
    def params(self):  # type: ignore[override]
        """All parameters by their names, such as "0.weight"."""
        return {p.name: p.value for p in self.parameters()}

    @property
    def grads(self):  # type: ignore[override]
        """All gradients, under the keys of `params`."""
        return {p.name: p.grad for p in self.parameters()}

    def forward(self, x, train=True):
        """The last layer's output. A layer skips the columns that unit dropout has dropped in the layer before it."""
        return self._run(x, train, None)[0]

    def forward_sparse(self, x, train, active_inputs):
        if self.overrides(Sequential):
            return super().forward_sparse(x, train, active_inputs)
        return self._run(x, train, active_inputs)

    def _run(self, x, train, active_inputs):
        for layer in self.layers:
            x, active_inputs = layer.forward_sparse(x, train, active_inputs)
        return x, active_inputs

    def backward(self, dy, input_grad=True):
        """dx; None where input_grad is False: the first layer with parameters then does a third less work."""
        first = 0
        if not input_grad:
            trained = [i for i, layer in enumerate(self.layers) if layer.parameters()]
            first = trained[0] if trained else len(self.layers)
        for i in range(len(self.layers) - 1, first - 1, -1):
            dy = self.layers[i].backward(dy, input_grad or i > first)
        return dy if input_grad else None

    def parameters(self) -> list[Parameter]:
        return [p.under(str(i)) for i, layer in enumerate(self.layers) for p in layer.parameters()]

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, index):
        return self.layers[index]

    def __iter__(self):
        return iter(self.layers)

    def __repr__(self):
        return "Sequential(" + ", ".join(map(repr, self.layers)) + ")"
