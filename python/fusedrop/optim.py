"""Optimisers: SGD and Adam, with L1 and L2 penalties on the weights.

What they minimise is the objective

    loss + l1 * Σ|w| + l2/2 * Σ w²

whose sums run over the weights (arrays of rank 2 or more), not over biases. step() adds the penalty's gradient,
l1 * sign(w) + l2 * w with sign(0) = 0, to the loss's; `penalty` is its value, to be added to the loss that is
reported. Dropout acts inside the loss and leaves the penalty alone, so all of them can be used together.

All updates are in place, and computed in float32 for bfloat16 parameters: a step below 1/512 of a weight is then lost
in its rounding.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fusedrop import _core, checks
from fusedrop.layers import Layer, Parameter


class Optimizer:
    """What the optimisers share: parameters, settings, penalties."""

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, l1: float, l2: float):
        self.parameters = _parameters(parameters)
        self.lr = lr
        self.l1, self.l2 = _not_negative(l1, "l1"), _not_negative(l2, "l2")

    @property
    def lr(self) -> float:
        """Learning rate; may be set between steps."""
        return self._lr

    @lr.setter
    def lr(self, lr: float):
        self._lr = _not_negative(lr, "lr")

    def penalty(self) -> float:
        """l1 * Σ|w| + l2/2 * Σ w² over the weights."""
        return penalty(self.parameters, l1=self.l1, l2=self.l2)

    def step(self) -> None:
        """One update of every parameter from its gradient, in one call of the kernels."""
        jobs = [
            (p.name, value := p.value, p.grad, *self._state(i, value), value.ndim >= 2)
            for i, p in enumerate(self.parameters)
        ]
        strided = [job for job in jobs if not job[1].flags.c_contiguous]
        for name, value, *_ in strided:
            if not value.flags.writeable:
                raise ValueError(f"{name} must be writeable; got a read-only array")
        self._run([job for job in jobs if job[1].flags.c_contiguous])
        # The kernels write contiguous memory. Strided views (a transposed weight, perhaps another's own memory) follow
        # one by one, each through a copy of what is there by then.
        for name, value, *rest in strided:
            copy = np.ascontiguousarray(value)
            self._run([(name, copy, *rest)])
            value[...] = copy

    def _state(self, i, value):
        """The two arrays that the rule keeps for parameter i, or None."""
        raise NotImplementedError

    def _run(self, parameters):
        raise NotImplementedError


class SGD(Optimizer):
    """v = momentum * v + g;  w -= lr * v, or with Nesterov's momentum w -= lr * (g + momentum * v).

    Args:
        parameters: of a layer or network, from its parameters().
        lr: learning rate; `optimizer.lr` may be set between steps.
        momentum: 0 keeps no velocity.
        nesterov: Sutskever et al. 2013; needs momentum > 0.
        l1, l2: penalties, see the module.
    """

    def __init__(self, parameters, *, lr, momentum=0.0, nesterov=False, l1=0.0, l2=0.0):
        super().__init__(parameters, lr=lr, l1=l1, l2=l2)
        self.momentum, self.nesterov = _below_one(momentum, "momentum"), checks.flag(nesterov, "nesterov")
        if nesterov and momentum == 0:
            raise ValueError("nesterov must come with momentum > 0; got momentum 0")
        self._velocity = [None] * len(self.parameters)

    def _state(self, i, value):
        if self.momentum and self._velocity[i] is None:
            self._velocity[i] = _zeros_like(value)
        return self._velocity[i], None

    def _run(self, parameters):
        _core.sgd_step(parameters, self._lr, self.momentum, self.nesterov, self.l1, self.l2)


class Adam(Optimizer):
    """m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;  w -= lr * (m / (1-β1^t)) / (sqrt(v / (1-β2^t)) + eps).

    Kingma and Ba, "Adam", 1412.6980.

    Args:
        parameters: of a layer or network, from its parameters().
        lr: learning rate; `optimizer.lr` may be set between steps.
        betas: (β1, β2), each in [0, 1).
        eps: added to the root.
        l1, l2: penalties, see the module; they pass through the moments.
    """

    def __init__(self, parameters, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, l1=0.0, l2=0.0):
        super().__init__(parameters, lr=lr, l1=l1, l2=l2)
        wanted = "a pair (beta1, beta2) of numbers in [0, 1)"
        if not isinstance(betas, (tuple, list)):
            raise TypeError(f"betas must be {wanted}; got {betas!r}")
        if len(betas) != 2:
            raise ValueError(f"betas must be {wanted}; got {betas!r}")
        self.betas = (_below_one(betas[0], "betas[0]"), _below_one(betas[1], "betas[1]"))
        self.eps = _not_negative(eps, "eps")
        self._steps = 0
        self._moments = [None] * len(self.parameters)

    def step(self):
        super().step()
        self._steps += 1

    def _state(self, i, value):
        if self._moments[i] is None:
            self._moments[i] = (_zeros_like(value), _zeros_like(value))
        return self._moments[i]

    def _run(self, parameters):
        _core.adam_step(parameters, self._lr, *self.betas, self.eps, self.l1, self.l2, self._steps + 1)


def penalty(net: Layer | Iterable[Parameter], *, l1: float = 0.0, l2: float = 0.0) -> float:
    """l1 * Σ|w| + l2/2 * Σ w², summed in float64: what L1 and L2 add to the loss.

    The weights are the parameters of rank 2 or more; biases are not penalised. An optimiser with the same l1= and l2=
    adds this value's gradient to the loss's in each step.

    Args:
        net: a layer, a network, or parameters such as net.parameters().
        l1, l2: its factors, finite numbers >= 0.
    """
    l1, l2 = _not_negative(l1, "l1"), _not_negative(l2, "l2")
    weights = [p.value.astype(np.float64, copy=False) for p in parameters_of(net, "net") if p.value.ndim >= 2]
    absolute = sum(float(np.abs(w).sum()) for w in weights) if l1 else 0.0
    squared = sum(float(np.square(w).sum()) for w in weights) if l2 else 0.0
    return l1 * absolute + l2 / 2 * squared


def parameters_of(net: Layer | Iterable[Parameter], name: str = "net") -> list[Parameter]:
    """Those of a layer or network, or the parameters given."""
    return net.parameters() if isinstance(net, Layer) else _parameters(net, name)


def _zeros_like(value):
    """State of a parameter: in float32 for bfloat16, which is too coarse to take small steps of a running mean."""
    return np.zeros(value.shape, np.float64 if value.dtype == np.float64 else np.float32)


def _parameters(parameters, name="parameters"):
    """A list of them, from an iterable of Parameter."""
    wanted = "an iterable of fusedrop.Parameter, as from net.parameters()"
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{name} must be {wanted}; got {type(parameters).__name__}")
    parameters = list(parameters)
    for i, p in enumerate(parameters):
        if not isinstance(p, Parameter):
            raise TypeError(f"{name} must be {wanted}; got {type(p).__name__} at [{i}]")
        if any(p.value is other.value for other in parameters[:i]):
            raise ValueError(f"{name} must be {wanted}, each once; got {p.name} twice")
    return parameters


def _not_negative(value, name):
    return checks.number(value, name, "a finite number >= 0")


def _below_one(value, name):
    return checks.number(value, name, "a number in [0, 1)", below=1.0)
