"""Forward calls of every operator whose context keeps arrays, for tests that change these arrays before backward."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import fusedrop as fd


class Call(NamedTuple):
    """A forward call: its arrays by the name that errors give them, its context, and the backward call."""

    arrays: dict[str, Any]
    saved: Any
    backward: Callable[[], tuple[Any, ...]]

    def refusal(self, name):
        """A pattern for the error of `backward` once this array has changed; to be called before the change."""
        shape = list(self.arrays[name].shape)
        return re.escape(f"{name} must stay {shape} in the same memory from forward to backward; it was resized")


def linear(normal):
    """relu saves y, which here is the caller's own array."""
    x, w, b, out = normal(64, 40), normal(48, 40), normal(48), normal(64, 48)
    y, saved = fd.linear_forward(x, w, b, activation="relu", out=out)
    dy = normal(64, 48)
    return Call({"x": x, "w": w, "y": y}, saved, lambda: fd.linear_backward(dy, saved))


def conv2d(normal):
    x, w = normal(2, 3, 20, 20), normal(8, 3, 3, 3)
    _, saved = fd.conv2d_forward(x, w, activation="silu")
    dy = normal(2, 8, 18, 18)
    return Call({"x": x, "w": w}, saved, lambda: fd.conv2d_backward(dy, saved))


def lstm(normal):
    x, w_ih, w_hh, c0 = normal(8, 6, 20), normal(64, 20), normal(64, 16), normal(8, 16)
    _, _, saved = fd.lstm_forward(x, w_ih, w_hh, c0=c0)
    dy = normal(8, 6, 16)
    return Call({"x": x, "w_ih": w_ih, "w_hh": w_hh, "c0": c0}, saved, lambda: fd.lstm_backward(dy, saved))


CASES = [
    (operator, name)
    for operator, names in ((linear, "x w y"), (conv2d, "x w"), (lstm, "x w_ih w_hh c0"))
    for name in names.split()
]
IDS = [f"{operator.__name__} {name}" for operator, name in CASES]


def pool(normal):
    """The context of a pooling keeps no array of the caller's."""
    x, dy = normal(2, 3, 20, 20), normal(2, 3, 10, 10)
    y, saved = fd.max_pool2d_forward(x, 2)
    return Call({"x": x, "y": y}, saved, lambda: (fd.max_pool2d_backward(dy, saved),))
