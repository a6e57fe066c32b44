"""Sequential: layers in a row."""

from __future__ import annotations

from collections.abc import Iterator

from fusedrop._core import Philox
from fusedrop.layers import Layer, Parameter


class Sequential(Layer):
    """y = last(...(first(x))).

    Numbers the streams of its layers by position (nested ones depth first; a layer's own stream= wins, and its
    number is not given to another), so that with seed= a network draws the same weights and masks in every run and
    process. Without seed=, layers keep their own seeds.

    Args:
        layers: in order of their calls.
        seed: for all layers that were not given one. Weights that are already in use stay as they are.
    """

    def __init__(self, *layers: Layer, seed: int | None = None):
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{position}] must be a fusedrop layer; got {type(layer).__name__}")
        self._saved = None
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
            Philox(seed)  # refuses what is no seed, also where no layer asks for one
        names = [leaf.mask_name for leaf in self.leaves() if hasattr(leaf, "mask_name")]
        taken = {name.rng.stream for name in names if name.stream_given}
        free = (number for number in range(len(names) + len(taken)) if number not in taken)
        for name in names:
            name.place(seed, name.rng.stream if name.stream_given else next(free))

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
        """The last layer's output. What unit dropout has left out, the next layer leaves out too."""
        return self._run(x, train, None)[0]

    def forward_known(self, x, train, kept_inputs):
        if self.overrides(Sequential):
            return super().forward_known(x, train, kept_inputs)
        return self._run(x, train, kept_inputs)

    def _run(self, x, train, kept_inputs):
        for layer in self.layers:
            x, kept_inputs = layer.forward_known(x, train, kept_inputs)
        return x, kept_inputs

    def backward(self, dy, input_grad=True):
        """dx; None where input_grad is False: the first layer with parameters then skips a third of its work."""
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
