"""Optimizers: SGD and Adam, with L1 and L2 penalties on the weights.

They minimize the objective

    loss + l1 * Σ|w| + l2/2 * Σ w²

whose sums run over the weights (arrays of rank 2 or more), not over biases. step() adds the gradient of the penalty,
l1 * sign(w) + l2 * w with sign(0) = 0, to the gradient of the loss; `penalty` returns the value, to add to a reported
loss. Dropout changes the loss and not the penalty, so that all of them can be used together.

All updates are in place. Updates of bfloat16 parameters are computed in float32; an update below 1/512 of a weight is
lost when the weight is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fusedrop import _core, checks
from fusedrop.layers.base import Layer, Parameter

Slots = dict[str, list[np.ndarray | None]]


class Optimizer:
    """Base of the optimizers: parameters, settings, penalties, and the state for a checkpoint."""

    SETTINGS: tuple[str, ...] = ("lr", "l1", "l2")  # attributes that an update depends on
    SLOTS: tuple[str, ...] = ()  # names of the rule's arrays for each parameter

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, l1: float, l2: float):
        self.parameters = _parameters(parameters)
        self.lr = lr
        self.l1, self.l2 = _not_negative(l1, "l1"), _not_negative(l2, "l2")
        self._steps = 0
        self._slots: Slots = {slot: [None] * len(self.parameters) for slot in self.SLOTS}

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
        # The kernels write contiguous memory. Strided views, which may share memory with another parameter, follow one
        # by one, each through a copy of its present values.
        for name, value, *rest in strided:
            copy = np.ascontiguousarray(value)
            self._run([(name, copy, *rest)])
            value[...] = copy
        self._steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The state that the next steps depend on, besides parameters and gradients. The arrays are not copies.

        {"rule": class name, "settings": {name: number}, "steps": int, "slots": {name: [array or None]}}
        """
        settings = {name: getattr(self, name) for name in self.SETTINGS}
        slots = {slot: list(arrays) for slot, arrays in self._slots.items()}
        return {"rule": type(self).__name__, "settings": settings, "steps": self._steps, "slots": slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which state_dict returned, with its settings; everything is checked first."""
        settings = self.check_state_dict(state)
        for name in self.SETTINGS:
            setattr(self, name, getattr(settings, name))
        self._steps = int(state["steps"])
        for slot in self.SLOTS:
            self._slots[slot] = [None if a is None else np.array(a, order="C") for a in state["slots"][slot]]

    def check_state_dict(self, state: dict[str, Any]) -> Optimizer:
        """An optimizer of no parameters with the settings of `state`; a ValueError where `state` does not fit."""
        if state["rule"] != type(self).__name__:
            raise ValueError(f"the optimizer must be {state['rule']}, as the state's; got {type(self).__name__}")
        checks.size(state["steps"], "steps")
        for slot in self.SLOTS:
            _check_slot(slot, state["slots"][slot], self.parameters)
        return type(self)([], **{name: state["settings"][name] for name in self.SETTINGS})

    def _state(self, i, value):
        """The rule's two arrays for parameter i, or None; zeros at the first step."""
        for arrays in self._slots.values():
            if arrays[i] is None:
                arrays[i] = np.zeros(value.shape, _state_dtype(value))
        return ([arrays[i] for arrays in self._slots.values()] + [None, None])[:2]

    def _run(self, parameters):
        raise NotImplementedError


class SGD(Optimizer):
    """v = momentum * v + g;  w -= lr * v, or with Nesterov's momentum w -= lr * (g + momentum * v).

    Args:
        parameters: of a layer or network, from its parameters().
        lr: learning rate; `optimizer.lr` may be set between steps.
        momentum: in [0, 1); with 0 there is no velocity.
        nesterov: Nesterov's momentum, Sutskever et al. 2013; needs momentum > 0.
        l1, l2: factors of the penalties, see the module.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    SETTINGS = ("lr", "momentum", "nesterov", "l1", "l2")
    SLOTS = ("velocity",)

    def __init__(self, parameters, *, lr, momentum=0.0, nesterov=False, l1=0.0, l2=0.0):
        super().__init__(parameters, lr=lr, l1=l1, l2=l2)
        self.momentum, self.nesterov = _below_one(momentum, "momentum"), checks.flag(nesterov, "nesterov")
        if nesterov and momentum == 0:
            raise ValueError("nesterov must come with momentum > 0; got momentum 0")

    def _state(self, i, value):
        return super()._state(i, value) if self.momentum else (None, None)

    def _run(self, parameters):
        _core.sgd_step(parameters, lr=self._lr, momentum=self.momentum, nesterov=self.nesterov, l1=self.l1, l2=self.l2)


class Adam(Optimizer):
    """m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;  w -= lr * (m / (1-β1^t)) / (sqrt(v / (1-β2^t)) + eps).

    Kingma and Ba, "Adam", 1412.6980.

    Args:
        parameters: of a layer or network, from its parameters().
        lr: learning rate; `optimizer.lr` may be set between steps.
        betas: (β1, β2), each in [0, 1).
        eps: added to the square root.
        l1, l2: factors of the penalties, see the module; their gradients are part of g.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    SETTINGS = ("lr", "betas", "eps", "l1", "l2")
    SLOTS = ("first_moment", "second_moment")

    def __init__(self, parameters, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, l1=0.0, l2=0.0):
        super().__init__(parameters, lr=lr, l1=l1, l2=l2)
        wanted = "a pair (beta1, beta2) of numbers in [0, 1)"
        if not isinstance(betas, (tuple, list)):
            raise TypeError(f"betas must be {wanted}; got {betas!r}")
        if len(betas) != 2:
            raise ValueError(f"betas must be {wanted}; got {betas!r}")
        self.betas = (_below_one(betas[0], "betas[0]"), _below_one(betas[1], "betas[1]"))
        self.eps = _not_negative(eps, "eps")

    def _run(self, parameters):
        beta1, beta2 = self.betas
        _core.adam_step(
            parameters,
            lr=self._lr,
            beta1=beta1,
            beta2=beta2,
            eps=self.eps,
            l1=self.l1,
            l2=self.l2,
            step=self._steps + 1,
        )


def penalty(net: Layer | Iterable[Parameter], *, l1: float = 0.0, l2: float = 0.0) -> float:
    """l1 * Σ|w| + l2/2 * Σ w², summed in float64: the term that L1 and L2 add to the loss.

    The weights are the parameters of rank 2 or more; biases are not penalized. An optimizer with the same l1= and l2=
    adds the gradient of this value to the loss's in each step.

    Args:
        net: a layer, a network, or parameters such as net.parameters().
        l1, l2: the factors, finite numbers >= 0.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    l1, l2 = _not_negative(l1, "l1"), _not_negative(l2, "l2")
    weights = [p.value.astype(np.float64, copy=False) for p in parameters_of(net, "net") if p.value.ndim >= 2]
    absolute = sum(float(np.abs(w).sum()) for w in weights) if l1 else 0.0
    squared = sum(float(np.square(w).sum()) for w in weights) if l2 else 0.0
    return l1 * absolute + l2 / 2 * squared


def parameters_of(net: Layer | Iterable[Parameter], name: str = "net") -> list[Parameter]:
    """The parameters of a layer or network, or the parameters given, as a list."""
    return net.parameters() if isinstance(net, Layer) else _parameters(net, name)


def _state_dtype(value):
    """The dtype of a parameter's state: float32 for bfloat16, which is too coarse for a running mean."""
    return np.dtype(np.float64 if value.dtype == np.float64 else np.float32)


def _check_slot(slot, arrays, parameters):
    """Raise unless `arrays` has an array or None per parameter, of its shape and the dtype of its state."""
    if len(arrays) != len(parameters):
        raise ValueError(f"{slot} must be of {len(parameters)} parameters; got {len(arrays)}")
    for array, p in zip(arrays, parameters, strict=True):
        wanted = f"{_state_dtype(p.value)} {list(p.value.shape)}"
        got = wanted if array is None else f"{array.dtype} {list(array.shape)}"
        if got != wanted:
            raise ValueError(f"{slot} of {p.name} must be {wanted}; got {got}")


def _parameters(parameters, name="parameters"):
    """The parameters as a list, from an iterable of Parameter."""
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
