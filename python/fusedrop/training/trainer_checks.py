"""Checks of the arguments of Trainer, before any work."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.functional.loss import softmax_cross_entropy, target_rows
from fusedrop.layers.base import Layer
from fusedrop.training.data import Examples, check_examples
from fusedrop.training.optim import Optimizer


def check_parts(net: Any, optimizer: Any, loss: Any) -> None:
    """Raise unless these are a network, an optimizer of its parameters, and a function."""
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a fusedrop layer or network; got {type(net).__name__}")
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "step", None)):
        raise TypeError(
            f"optimizer must have a method step(), as fusedrop.training.SGD; got {type(optimizer).__name__}"
        )
    if isinstance(optimizer, Optimizer):
        of_net = {id(p.value) for p in net.parameters()}
        if optimizer.parameters and not any(id(p.value) in of_net for p in optimizer.parameters):
            raise ValueError(f"optimizer must have been made from net's parameters; got {optimizer.parameters[:1]}")
    if not callable(loss):
        raise TypeError(f"loss must be a function of (outputs, y); got {type(loss).__name__}")


def check_data(trainer: Any, x: Any, y: Any, x_name: str = "x", y_name: str = "y") -> Examples:
    """(x, y) as arrays of one length. The first example must fit the network and the loss, all labels the outputs."""
    x, y = check_examples(x, y, x_name, y_name)
    dtypes = {p.value.dtype for p in trainer.net.parameters()}
    if len(dtypes) == 1 and x.dtype not in dtypes:
        raise TypeError(f"{x_name} must be {dtypes.pop()}, the network's dtype; got {x.dtype}")
    outputs = trainer.net.forward(x[:1], train=False)
    if trainer.loss is softmax_cross_entropy and outputs.ndim == 2:  # for other ranks its own error is clear
        check_labels(outputs, y, y_name)
    check_loss(trainer.loss(outputs, y[:1]), outputs)
    if trainer.loss is not softmax_cross_entropy and trainer.accuracy:
        check_classes(outputs, y, y_name)
    return x, y


def check_labels(outputs: np.ndarray, y: np.ndarray, y_name: str) -> None:
    """Raise for labels y that softmax_cross_entropy refuses, given outputs [1, N] of the first example."""
    try:
        target_rows(y, len(y), outputs.shape[1], outputs.dtype)
    except (TypeError, ValueError) as error:  # the argument of the loss is called labels
        raise type(error)(y_name + str(error).removeprefix("labels")) from None


def check_loss(returned: Any, outputs: np.ndarray) -> None:
    """Raise unless a loss returned a number and a gradient of the shape and dtype of the outputs."""
    wanted = f"loss must return (a number, an array {list(outputs.shape)} of {outputs.dtype} like the outputs)"
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        got = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else type(returned).__name__
        raise TypeError(f"{wanted}; got {got}")
    loss, gradient = returned
    if not _is_number(loss):
        got = f"an array {list(loss.shape)}" if isinstance(loss, np.ndarray) else type(loss).__name__
        raise TypeError(f"{wanted}; got {got} for the number")
    if not isinstance(gradient, np.ndarray):
        raise TypeError(f"{wanted}; got {type(gradient).__name__} for the array")
    got = f"an array {list(gradient.shape)} of {gradient.dtype}"
    if gradient.dtype != outputs.dtype:
        raise TypeError(f"{wanted}; got {got}")
    if gradient.shape != outputs.shape:
        raise ValueError(f"{wanted}; got {got}")


def _is_number(value: Any) -> bool:
    """A real number of Python or NumPy, or an array without axes."""
    if not isinstance(value, (int, float, np.generic, np.ndarray)):
        return False
    a = np.asarray(value)
    return a.ndim == 0 and (a.dtype.kind in "iuf" or checks.is_floating(a.dtype))


def check_classes(outputs: np.ndarray, y: np.ndarray, y_name: str) -> None:
    """Raise where accuracy is not defined, given outputs [1, N] of the first example and y of all."""
    classes = y.ndim == 1 and y.dtype.kind in "iu"
    if outputs.ndim != 2 or not (classes or y.shape[1:] == outputs.shape[1:]):
        wanted = "integer classes [n] or rows [n, N] for outputs [n, N], or come with accuracy=False"
        got = f"{y.dtype} {list(y.shape)} for outputs {['n', *outputs.shape[1:]]}"
        raise ValueError(f"{y_name} must be {wanted}; got {got}")
