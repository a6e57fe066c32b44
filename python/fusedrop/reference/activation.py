"""The activations and their derivatives."""

import math
from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.operator import output_only

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _normal_cdf(z):
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def _sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


def _gelu_tanh_gate(z):
    return _sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


def _relu(z):
    return np.where(np.isnan(z), z, np.maximum(z, 0))


def _gelu_derivative(z):
    return _normal_cdf(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh_derivative(z):
    s = _gelu_tanh_gate(z)
    return s + z * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)


def _silu_derivative(z):
    s = _sigmoid(z)
    return s + z * s * (1 - s)


# name: (act(z), g * act'(z)). relu selects instead of multiplying: the gradient of a dead unit is 0 even for g = Inf.
ACTIVATIONS = {
    "identity": (lambda z: z, lambda g, z: g),
    "relu": (_relu, lambda g, z: np.where(z <= 0, 0.0, g)),
    "gelu": (lambda z: z * _normal_cdf(z), lambda g, z: g * _gelu_derivative(z)),
    "gelu_tanh": (lambda z: z * _gelu_tanh_gate(z), lambda g, z: g * _gelu_tanh_derivative(z)),
    "silu": (lambda z: z * _sigmoid(z), lambda g, z: g * _silu_derivative(z)),
    "tanh": (np.tanh, lambda g, z: g * (1 - np.tanh(z) ** 2)),
    "sigmoid": (_sigmoid, lambda g, z: g * _sigmoid(z) * (1 - _sigmoid(z))),
}


class ActivationContext(NamedTuple):
    """The pre-activation and the name of the activation."""

    x: Any
    activation: str


def activate_forward(x, activation):
    """(y, context): y = act(x), and what `activate_backward` takes."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        return ACTIVATIONS[activation][0](x), ActivationContext(x, activation)


activate = output_only(activate_forward)


def activate_backward(dy, saved):
    """dx = dy * act'(x)."""
    with np.errstate(all="ignore"):
        return ACTIVATIONS[saved.activation][1](np.asarray(dy, np.float64), saved.x)
