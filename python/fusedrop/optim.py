"""Optimisers: SGD and Adam, with L1 and L2 penalties on the weights.

The penalty l1 * Σ|w| + l2/2 * Σ w² covers weights (arrays of rank 2 or more), not biases; `penalty()` is its
value, to be added to the loss that is reported, and step() adds its gradient. All updates are in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fusedrop import checks
from fusedrop.layers import Parameter


class Optimizer:
    """What the optimisers share: parameters, settings, penalties."""

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, l1: float, l2: float):
        self.parameters = _parameters(parameters)
        self.lr = lr
        self.l1, self.l2 = _not_negative(l1, "l1"), _not_negative(l2, "l2")
        self._scratch: dict[int, np.ndarray] = {}

    @property
    def lr(self) -> float:
        """Learning rate; may be set between steps."""
        return self._lr

    @lr.setter
    def lr(self, lr: float):
        self._lr = _not_negative(lr, "lr")

    def penalty(self) -> float:
        """l1 * Σ|w| + l2/2 * Σ w² over the weights."""
        weights = [p.value for p in self.parameters if p.value.ndim >= 2]
        l1 = sum(float(np.abs(w).sum(dtype=np.float64)) for w in weights) if self.l1 else 0.0
        l2 = sum(float(np.square(w, dtype=np.float64).sum()) for w in weights) if self.l2 else 0.0
        return self.l1 * l1 + self.l2 / 2 * l2

    def step(self) -> None:
        """One update of every parameter from its gradient."""
        for i, p in enumerate(self.parameters):
            self._update(i, p.value, self._gradient(p))

    def _gradient(self, p):
        if p.value.ndim < 2 or not (self.l1 or self.l2):
            return p.grad
        gradient = p.grad + p.value.dtype.type(self.l2) * p.value
        if self.l1:
            gradient += p.value.dtype.type(self.l1) * np.sign(p.value)
        return gradient

    def _buffer(self, i, like):
        """Scratch of the parameter's shape: an update allocates nothing after the first."""
        buffer = self._scratch.get(i)
        if buffer is None or buffer.shape != like.shape:
            buffer = self._scratch[i] = np.empty_like(like)
        return buffer

    def _update(self, i, value, gradient):
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

    def _update(self, i, value, gradient):
        if self.momentum:
            if self._velocity[i] is None:
                self._velocity[i] = np.zeros_like(value)
            velocity = self._velocity[i]
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        value -= np.multiply(gradient, self.lr, out=self._buffer(i, value))


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
        self._steps += 1
        super().step()

    def _update(self, i, value, gradient):
        if self._moments[i] is None:
            self._moments[i] = (np.zeros_like(value), np.zeros_like(value))
        (m, v), (beta1, beta2) = self._moments[i], self.betas
        buffer = self._buffer(i, value)
        m *= beta1
        m += np.multiply(gradient, 1 - beta1, out=buffer)
        v *= beta2
        np.square(gradient, out=buffer)
        buffer *= 1 - beta2
        v += buffer
        np.sqrt(v, out=buffer)
        buffer /= math.sqrt(1 - beta2**self._steps)
        buffer += self.eps
        np.divide(m, buffer, out=buffer)
        buffer *= self.lr / (1 - beta1**self._steps)
        value -= buffer


def _parameters(parameters):
    """A list of them, from an iterable of Parameter."""
    wanted = "an iterable of fusedrop.Parameter, as from net.parameters()"
    if not isinstance(parameters, Iterable):
        raise TypeError(f"parameters must be {wanted}; got {type(parameters).__name__}")
    parameters = list(parameters)
    for i, p in enumerate(parameters):
        if not isinstance(p, Parameter):
            raise TypeError(f"parameters must be {wanted}; got {type(p).__name__} at [{i}]")
        if any(p.value is other.value for other in parameters[:i]):
            raise ValueError(f"parameters must be {wanted}, each once; got {p.name} twice")
    return parameters


def _not_negative(value, name):
    return checks.number(value, name, "a finite number >= 0")


def _below_one(value, name):
    return checks.number(value, name, "a number in [0, 1)", below=1.0)
