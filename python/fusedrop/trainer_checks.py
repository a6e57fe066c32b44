"""What Trainer refuses, before any work."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.batches import Examples, check_examples
from fusedrop.layers import Layer
from fusedrop.losses import softmax_cross_entropy, target_rows
from fusedrop.optim import Optimizer


def check_parts(net: Any, optimiser: Any, loss: Any) -> None:
    """A network, an optimiser of it, a function."""
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a fusedrop layer or network; got {type(net).__name__}")
    if isinstance(optimiser, type) or not callable(getattr(optimiser, "step", None)):
        raise TypeError(f"optimiser must have a method step(), as fusedrop.SGD; got {type(optimiser).__name__}")
    if isinstance(optimiser, Optimizer):
        of_net = {id(p.value) for p in net.parameters()}
        if optimiser.parameters and not any(id(p.value) in of_net for p in optimiser.parameters):
            raise ValueError(f"optimiser must have been made from net's parameters; got {optimiser.parameters[:1]}")
    if not callable(loss):
        raise TypeError(f"loss must be a function of (outputs, y); got {type(loss).__name__}")


def check_data(trainer: Any, x: Any, y: Any, x_name: str = "x", y_name: str = "y") -> Examples:
    """Arrays of one length; the first example fits the network and the loss, and all labels the outputs."""
    x, y = check_examples(x, y, x_name, y_name)
    dtypes = {p.value.dtype for p in trainer.net.parameters()}
    if len(dtypes) == 1 and x.dtype not in dtypes:
        raise TypeError(f"{x_name} must be {dtypes.pop()}, the network's dtype; got {x.dtype}")
    outputs = trainer.net.forward(x[:1], train=False)
    if trainer.loss is softmax_cross_entropy and outputs.ndim == 2:  # it says itself that it needs two axes
        check_labels(outputs, y, y_name)
    check_loss(trainer.loss(outputs, y[:1]), outputs)
    if trainer.loss is not softmax_cross_entropy and trainer.accuracy:
        check_classes(outputs, y, y_name)
    return x, y


def check_labels(outputs: np.ndarray, y: np.ndarray, y_name: str) -> None:
    """What softmax_cross_entropy takes: outputs [1, N] of the first example and y of all."""
    try:
        target_rows(y, len(y), outputs.shape[1], outputs.dtype)
    except (TypeError, ValueError) as error:  # its own argument is called labels
        raise type(error)(y_name + str(error).removeprefix("labels")) from None


def check_loss(returned: Any, outputs: np.ndarray) -> None:
    """A number and the outputs' gradient: backward would take neither a wider one nor one of another shape."""
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
    """A real number of Python or NumPy, an array without axes among them."""
    if not isinstance(value, (int, float, np.generic, np.ndarray)):
        return False
    a = np.asarray(value)
    return a.ndim == 0 and (a.dtype.kind in "iuf" or checks.is_floating(a.dtype))


def check_classes(outputs: np.ndarray, y: np.ndarray, y_name: str) -> None:
    """Accuracy has a meaning: outputs [1, N] of the first example and y of all."""
    classes = y.ndim == 1 and y.dtype.kind in "iu"
    if outputs.ndim != 2 or not (classes or y.shape[1:] == outputs.shape[1:]):
        wanted = "integer classes [n] or rows [n, N] for outputs [n, N], or come with accuracy=False"
        got = f"{y.dtype} {list(y.shape)} for outputs {['n', *outputs.shape[1:]]}"
        raise ValueError(f"{y_name} must be {wanted}; got {got}")
