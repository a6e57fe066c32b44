"""Training examples, x [n, ...] with y [n, ...]: checks, the validation split, batches."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from fusedrop import checks

Examples = tuple[np.ndarray, np.ndarray]


def split_validation(x: np.ndarray, y: np.ndarray, fraction: float, *, seed: int = 0) -> tuple[Examples, Examples]:
    """A random split of the examples: ((x_train, y_train), (x_validation, y_validation)), copies of their rows.

    The first round(fraction * n) rows of numpy.random.default_rng(seed).permutation(n) are for validation, the others
    for training. One n and one seed give one split: the validation examples are the same when training continues.

    Args:
        x: [n, ...], float32, float64 or bfloat16.
        y: [n] or [n, ...], one label or one row per example.
        fraction: in (0, 1); each part must get at least one example.
        seed: an integer >= 0.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    x, y = check_examples(x, y)
    held_out = _count_held_out(len(x), fraction, "fraction", "a number in (0, 1)")
    order = np.random.default_rng(checks.size(seed, "seed")).permutation(len(x))
    validation, train = order[:held_out], order[held_out:]
    return (x[train], y[train]), (x[validation], y[validation])


def _count_held_out(n: int, fraction: Any, name: str, wanted: str) -> int:
    """The number of validation examples among n: at least 1 and at most n - 1."""
    fraction = checks.number(fraction, name, wanted, low=np.nextafter(0, 1), below=1)
    held_out = round(fraction * n)
    if not 0 < held_out < n:
        raise ValueError(f"{name} must leave each part an example of {n}; got {fraction!r}: {held_out} of them")
    return held_out


def check_examples(x: Any, y: Any, x_name: str = "x", y_name: str = "y") -> Examples:
    """(x, y) as arrays of one length, not empty; y may be a list."""
    checks.floating_array(x, x_name)
    y = np.asarray(y)
    check_array(x, x_name)
    check_array(y, y_name)
    if len(y) != len(x):
        raise ValueError(f"{y_name} must be [n, ...] with n = {len(x)} to match {x_name}; got {list(y.shape)}")
    return x, y


def check_array(a: np.ndarray, name: str) -> None:
    """Raise unless `a` is [n, ...] with n >= 1."""
    if a.ndim == 0 or len(a) == 0:
        raise ValueError(f"{name} must be [n, ...] with n >= 1; got {list(a.shape)}")


def check_validation(x: np.ndarray, y: np.ndarray, validation: Any) -> tuple[Examples, Examples | None]:
    """(training examples, validation examples or None) of fit's validation=: a pair, a fraction or None."""
    if validation is None:
        return (x, y), None
    if isinstance(validation, (tuple, list)):
        if len(validation) != 2:
            raise ValueError(f"validation must be a pair (x, y), a fraction or None; got {len(validation)} parts")
        held_out = check_examples(validation[0], validation[1], "validation x", "validation y")
        if held_out[0].shape[1:] != x.shape[1:]:
            features, got = list(x.shape[1:]), list(held_out[0].shape)
            raise ValueError(f"validation x must be [n, ...] with {features} after n to match x; got {got}")
        return (x, y), held_out
    wanted = "a pair (x, y), a fraction in (0, 1) or None"
    if not isinstance(validation, Real):  # by its type: an array would be printed whole
        raise TypeError(f"validation must be {wanted}; got {type(validation).__name__}")
    _count_held_out(len(x), validation, "validation", wanted)  # its error says validation, not fraction
    return split_validation(x, y, float(validation))


class EpochBatches:
    """Each iteration is one epoch: row numbers in the fewest batches of at most batch_size, of nearly equal sizes.

    The sizes differ by one at most: a small last batch would be a noisier step than the others, right before the epoch
    is measured.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, shuffle_seed: int):
        self.n, self.batches = n, -(-n // checks.count(batch_size, "batch_size"))
        self.shuffle = checks.flag(shuffle, "shuffle")
        self.order = np.random.default_rng(checks.size(shuffle_seed, "shuffle_seed"))

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = self.order.permutation(self.n) if self.shuffle else np.arange(self.n)
        return iter(np.array_split(rows, self.batches))


def slices(n: int, batch_size: int) -> Iterator[slice]:
    """Rows 0 to n in order, batch_size at a time."""
    return (slice(start, start + batch_size) for start in range(0, n, batch_size))
