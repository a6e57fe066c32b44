"""Checks of the arguments of layers, optimizers and training; csrc/bind checks the arguments of the operators.

Every error names the argument, the wanted value and the value that was given.
"""

from __future__ import annotations

import math

import numpy as np

FLOATING = (np.dtype(np.float32), np.dtype(np.float64))
CUDA = 2  # DLPack's number for a CUDA device
LARGEST = 2**31 - 1  # of a kernel's size, stride or padding


def on_gpu(value):
    """Whether `value` is an array of any library on a CUDA device."""
    return not isinstance(value, np.ndarray) and _dlpack_device(value)[0] == CUDA


def _dlpack_device(value):
    return value.__dlpack_device__() if hasattr(value, "__dlpack_device__") else (None, None)


def floating_array(value, name):
    """`value`, which must be a NumPy array of float32, float64 or bfloat16 in native byte order."""
    if on_gpu(value):
        got = f"cuda:{_dlpack_device(value)[1]}"
        raise ValueError(f"{name} must be on the CPU, this call runs there only; got {got}")
    if not isinstance(value, np.ndarray) or not is_floating(value.dtype):
        got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a NumPy array of float32, float64 or bfloat16; got {got}")
    return value


def floating_array_anywhere(value, name):
    """`value`, which must be such an array, or an array on a GPU: the kernels check its dtype."""
    return value if on_gpu(value) else floating_array(value, name)


def is_floating(dtype):
    """Whether the kernels have this dtype; bfloat16 is compared by name, for its library may not be installed."""
    return dtype in FLOATING or (dtype.name == "bfloat16" and dtype.isnative)


def gradient_like(dy, shape, dtype):
    """`dy`, which must have this shape and dtype, those of the output."""
    floating_array_anywhere(dy, "dy")
    if dy.dtype != dtype:
        raise TypeError(f"dy must be {dtype} to match the output; got {dy.dtype}")
    if dy.shape != tuple(shape):
        raise ValueError(f"dy must be {list(shape)} to match the output; got {list(dy.shape)}")
    return dy


def floating_dtype(value):
    """The dtype that `value` names: float32, float64 or bfloat16."""
    if isinstance(value, str) and value == "bfloat16":
        return _bfloat16()
    try:
        dtype = None if value is None else np.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or not is_floating(dtype):  # np.dtype(None) is float64
        raise TypeError(f"dtype must be float32, float64 or bfloat16; got {value if dtype is None else dtype}")
    return dtype


def _bfloat16():
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(
            "dtype must be float32 or float64 where ml_dtypes is not installed; got bfloat16: "
            "pip install 'fusedrop[bfloat16]'"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def flag(value, name):
    """`value`, which must be True or False, as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def size(value, name, low=0):
    """`value`, which must be an integer >= low, as an int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer >= {low}; got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be an integer >= {low}; got {value!r}")
    return int(value)


def pair(value, name, low):
    """(height, width) from an integer >= low for both, or from a pair of them."""
    wanted = f"an integer in [{low}, {LARGEST}] or a pair of them"
    items = value if isinstance(value, (tuple, list)) else (value, value)
    if any(isinstance(item, bool) or not isinstance(item, (int, np.integer)) for item in items):
        raise TypeError(f"{name} must be {wanted}; got {value!r}")
    if len(items) != 2 or not all(low <= item <= LARGEST for item in items):
        raise ValueError(f"{name} must be {wanted}; got {value!r}")
    return int(items[0]), int(items[1])


def count(value, name):
    """`value`, which must be an integer >= 1, as an int."""
    return size(value, name, low=1)


def number(value, name, wanted, low=0.0, below=math.inf):
    """`value`, which must be a real number in [low, below), as a float; `wanted` describes the range in the error."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be {wanted}; got {value!r}")
    if not low <= value < below:
        raise ValueError(f"{name} must be {wanted}; got {value!r}")
    return float(value)


def probability(value, name):
    """`value`, which must be a number in [0, 1], as a float."""
    return number(value, name, "a number in [0, 1]", below=math.nextafter(1.0, 2.0))


def choice(value, name, choices):
    """`value`, which must be one of these names."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}; got {value!r}")
    return value


def channels_last(layout):
    """Whether `layout` is "NHWC"; it must be that or "NCHW"."""
    return choice(layout, "layout", ("NCHW", "NHWC")) == "NHWC"
