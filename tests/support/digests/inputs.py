"""Inputs of the digests: arrays that depend on a text alone, never on a library's random generator.

A hash turns the text and the index of an element into 64 bits (splitmix64: Steele, Lea, Flood, 2014). Only modular
and IEEE 754 arithmetic turns those bits into values. So every version of NumPy makes the same arrays.

The texts are data: another word in a text makes another array.
"""

import hashlib
import math

import numpy as np

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    BFLOAT16 = None

DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": BFLOAT16}
# The NaN that x86 itself makes of an invalid operation. So all NaNs of a result have the same bits, and it does not
# matter which operand an instruction takes its NaN from.
NAN = math.copysign(math.nan, -1)
SPECIALS = (0.0, -0.0, math.inf, -math.inf, NAN, 2.0**-130, -(2.0**-131), 2.0**-126, 3.0e38, -1.0e-30)


def available_dtypes():
    """The names of the dtypes that this installation has."""
    return [name for name, dtype in DTYPES.items() if dtype is not None]


def words(text, count):
    """`count` hashes as uint64."""
    seed = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], "<u8").astype(np.uint64)
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + seed
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def whole(text, shape, low, high):
    """Integers in [low, high), as int64."""
    count = math.prod(shape)
    return (low + (words(text, count) >> np.uint64(11)).astype(np.int64) % (high - low)).reshape(shape)


def flags(text, count, share=0.5):
    """A bool array; about `share` of it is True."""
    return whole(text, (count,), 0, 1000) < int(1000 * share)


def normal(text, shape, dtype, kind="normal"):
    """An array of the dtype of this name, of mean 0 and variance 1: a sum of four uniform numbers.

    kind: "normal"; "specials" writes SPECIALS over some elements; "tiny" scales the values to subnormal numbers.
    """
    count = math.prod(shape)
    quarters = words(text, count).view(np.uint16).reshape(count, 4).astype(np.int64)
    total = quarters[:, 0] + quarters[:, 1] + quarters[:, 2] + quarters[:, 3] - 2 * 65535
    values = total * (math.sqrt(3) / 65536)
    if kind == "tiny":
        values = values * (2.0**-1050 if dtype == "f64" else 2.0**-130)
    if kind == "specials":
        put_specials(values)
    return rounded(values, dtype).reshape(shape)


def put_specials(values):
    """Writes SPECIALS into the array, at equal distances."""
    count = min(len(SPECIALS), len(values))
    for i in range(count):
        values[(2 * i + 1) * len(values) // (2 * count)] = SPECIALS[i]


def rounded(values, dtype):
    """A flat float64 array in the dtype of this name. bfloat16 is rounded here: to nearest, ties to even."""
    with np.errstate(over="ignore"):
        single = values.astype(DTYPES["f64"] if dtype == "f64" else DTYPES["f32"])
    if dtype != "bf16":
        return single
    bits = single.view(np.uint32)
    upper = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (upper >> np.uint32(16)).astype(np.uint16).view(BFLOAT16)


class Maker:
    """Makes the arrays of one case: make("x", 3, 4) is [3, 4] of the case's dtype and kind."""

    def __init__(self, text, dtype, kind="normal"):
        self.text, self.dtype, self.kind = text, dtype, kind

    def __call__(self, name, *shape, scale=1.0, kind=None):
        kind = self.kind if kind is None else kind
        array = normal(f"{self.text} {name} {kind}", shape, self.dtype, kind)
        return array if scale == 1.0 else (array * array.dtype.type(scale)).astype(array.dtype)

    def plain(self, name, *shape):
        """Without specials: for weights, where one NaN would fill a whole column of y."""
        return self(name, *shape, kind="normal" if self.kind == "specials" else None)


# Each layout function returns a view with a's values. Gaps between the elements, if any, hold NaN.


def _filled(view, a):
    view[...] = a
    return view


def _surrounded(a, *shape):
    return np.full(shape, NAN, a.dtype)


LAYOUTS = {
    "rows": lambda a: a,
    "columns": np.asfortranarray,
    "thirds": lambda a: _filled(
        _surrounded(a, *(3 * n + 1 for n in a.shape))[tuple(slice(1, None, 3) for _ in a.shape)], a
    ),
    "cropped": lambda a: _filled(_surrounded(a, *(n + 5 for n in a.shape))[tuple(slice(2, 2 + n) for n in a.shape)], a),
    "reversed": lambda a: _filled(np.empty_like(a)[tuple(slice(None, None, -1) for _ in a.shape)], a),
    "reversed_columns": lambda a: LAYOUTS["reversed"](a.T.copy()).T,
    "packed_field": lambda a: _filled(np.zeros(a.shape, [("flag", "u1"), ("value", a.dtype)])["value"], a),
    "padded_field": lambda a: _filled(np.zeros(a.shape, [("gap", a.dtype), ("value", a.dtype)])["value"], a),
    "odd_address": lambda a: _filled(np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape), a),
    "one_row": lambda a: np.broadcast_to(a[:1].copy(), a.shape),
    "one_column": lambda a: np.broadcast_to(a[..., :1].copy(), a.shape),
}
