"""Every wrong argument of a function is refused before any work: the right exception, both sides, nothing touched."""

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows, not_a_probability

RNG = fd.Philox(seed=1, stream=2, step=3)
LAST_ROW, LAST_COL = 2**32 - 1, 2**35


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


X, W, B, RESIDUAL, DY = normal(3, 4), normal(5, 4), normal(5), normal(3, 5), normal(3, 5)  # M, K, N = 3, 4, 5
SAVED = fd.linear_forward(X, W, B, activation="gelu", p=0.5, rng=RNG)[1]


def activate_backward(dy, x, activation):
    """The arguments that its context holds, one by one."""
    return fd.activate_backward(dy, fd.ActivationContext(x, activation))


def good(entry):
    """Arguments that `entry` accepts; each row of the table spoils one."""
    layer = {"x": X, "w": W, "b": B, "activation": "relu", "p": 0.5, "rng": RNG, "input_p": 0.25, "residual": RESIDUAL}
    layer |= {"dropout_first": False, "granularity": "element", "out": np.zeros((3, 5), np.float32)}
    backward = {"dx": np.zeros((3, 4), np.float32), "dw": np.zeros((5, 4), np.float32), "db": np.zeros(5, np.float32)}
    return {
        fd.linear: layer,
        fd.linear_forward: layer,
        fd.linear_backward: dict(dy=DY, saved=SAVED, **backward),
        fd.dropout: {"x": X, "p": 0.5, "rng": RNG, "granularity": "element", "scaling": "inverted"},
        fd.dropout_mask: {"shape": (3, 4), "p": 0.5, "rng": RNG, "granularity": "element"},
        fd.activate: {"x": X, "activation": "gelu"},
        activate_backward: {"dy": DY, "x": RESIDUAL, "activation": "gelu"},
        fd.softmax_cross_entropy: {"logits": X, "labels": np.array([0, 3, 1])},
    }[entry]


ENTRIES = [
    fd.linear,
    fd.linear_forward,
    fd.linear_backward,
    fd.dropout,
    fd.dropout_mask,
    fd.activate,
    activate_backward,
    fd.softmax_cross_entropy,
]
LAYER = (fd.linear, fd.linear_forward)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_unspoiled_arguments_are_accepted(entry):
    entry(**good(entry))


def wrong_element_types(entry, name, array):
    """Values that are no native floating array; destinations have another message for values that are no array."""
    types = ["float16", "int64", "uint8", "bool", "complex64", "object", "datetime64[s]", ">f4", ">f8"]
    wanted = "NumPy array of float32, float64 or bfloat16"
    for dtype in types:
        yield entry, name, np.zeros(array.shape, dtype), TypeError, wanted, dtype
    if name not in ("dx", "dw", "db"):
        for value in (array.tolist(), "abc", 1.0, memoryview(array)):
            yield entry, name, value, TypeError, wanted, type(value).__name__


ARRAYS = {
    fd.linear: ["x", "w", "b", "residual", "out"],
    fd.linear_forward: ["x", "w", "b", "residual", "out"],
    fd.linear_backward: ["dy", "dx", "dw", "db"],
    fd.dropout: ["x"],
    fd.activate: ["x"],
    activate_backward: ["x", "dy"],
    fd.softmax_cross_entropy: ["logits"],
}
ELEMENT_TYPES = [
    row
    for entry, names in ARRAYS.items()
    for name in names
    for row in wrong_element_types(entry, name, good(entry)[name])
]

# (entries, argument, value, error, wanted, got)
SHAPES = [
    (LAYER, "x", X[0], ValueError, "[M, K], an array of rank 2", "rank 1, shape [4]"),
    (LAYER, "x", X[None], ValueError, "[M, K], an array of rank 2", "rank 3, shape [1, 3, 4]"),
    (LAYER, "x", np.array(1, np.float32), ValueError, "[M, K], an array of rank 2", "rank 0, shape []"),
    (LAYER, "w", W[0], ValueError, "[N, K] = [*, 4] to match x [3, 4]", "[4]"),
    (LAYER, "w", W[None], ValueError, "[N, K] = [*, 4] to match x [3, 4]", "[1, 5, 4]"),
    (LAYER, "w", W.T, ValueError, "[N, K] = [*, 4] to match x [3, 4]", "[4, 5]"),
    (LAYER, "b", B[1:], ValueError, "[N] = [5] to match w [5, 4]", "[4]"),
    (LAYER, "b", B[None], ValueError, "[N] = [5] to match w [5, 4]", "[1, 5]"),
    (LAYER, "b", np.array(1, np.float32), ValueError, "[N] = [5] to match w [5, 4]", "[]"),
    (LAYER, "residual", RESIDUAL.T, ValueError, "[M, N] = [3, 5]", "[5, 3]"),
    (LAYER, "residual", RESIDUAL[0], ValueError, "[M, N] = [3, 5]", "[5]"),
    (LAYER, "residual", RESIDUAL[:1], ValueError, "[M, N] = [3, 5]", "[1, 5]"),
    ((fd.linear_backward,), "dy", DY.T, ValueError, "[M, N] = [3, 5]", "[5, 3]"),
    ((fd.linear_backward,), "dy", DY[0], ValueError, "[M, N] = [3, 5]", "[5]"),
    ((fd.linear_backward,), "dy", DY[:2], ValueError, "[M, N] = [3, 5]", "[2, 5]"),
    ((activate_backward,), "dy", DY.T, ValueError, "[3, 5] to match x", "[5, 3]"),
    ((activate_backward,), "dy", DY[0], ValueError, "[3, 5] to match x", "[5]"),
    ((fd.softmax_cross_entropy,), "logits", X[0], ValueError, "[M, N]", "[4]"),
    ((fd.softmax_cross_entropy,), "logits", X[:, :0], ValueError, "N >= 1", "[3, 0]"),
]
DTYPES = [
    (LAYER, "w", W.astype("f8"), TypeError, "float32 to match x", "float64"),
    (LAYER, "b", B.astype("f8"), TypeError, "float32 to match x", "float64"),
    (LAYER, "residual", RESIDUAL.astype("f8"), TypeError, "float32 to match x", "float64"),
    (LAYER, "out", np.zeros((3, 5)), TypeError, "float32 to match the inputs", "float64"),
    ((fd.linear_backward,), "dy", DY.astype("f8"), TypeError, "float32 to match x", "float64"),
    ((fd.linear_backward,), "dx", np.zeros((3, 4)), TypeError, "float32 to match the inputs", "float64"),
    ((fd.linear_backward,), "dw", np.zeros((5, 4)), TypeError, "float32 to match the inputs", "float64"),
    ((fd.linear_backward,), "db", np.zeros(5), TypeError, "float32 to match the inputs", "float64"),
    ((activate_backward,), "dy", DY.astype("f8"), TypeError, "float32 to match x", "float64"),
]
NAMES = [
    (entries, argument, value, ValueError, wanted, repr(value))
    for entries, argument, wanted in [
        ((*LAYER, fd.activate, activate_backward), "activation", "one of 'identity', 'relu', 'gelu'"),
        ((*LAYER, fd.dropout, fd.dropout_mask), "granularity", "'element' or 'unit'"),
        ((fd.dropout,), "scaling", "'inverted' or 'classic'"),
    ]
    for value in ("ReLU", "", None, 3, b"relu", ["relu"], True)
]
FLAGS = [(LAYER, "dropout_first", value, TypeError, "True or False", repr(value)) for value in (1, 0, "yes", None)] + [
    ((fd.linear_backward,), name, value, TypeError, "True, False or an array", repr(value))
    for name in ("dx", "dw", "db")
    for value in (1, "yes", None, [1.0])
]
MASKED = (*LAYER, fd.dropout, fd.dropout_mask)
KEYS = [
    (MASKED, "rng", None, ValueError, "required where p > 0", "None"),
    (MASKED, "rng", 7, TypeError, "a fusedrop.Philox or None", "int"),
    (MASKED, "rng", np.random.default_rng(1), TypeError, "a fusedrop.Philox or None", "Generator"),
    (MASKED, "rng", RNG.at(row0=LAST_ROW - 2), ValueError, str(LAST_ROW), f"row0 = {LAST_ROW - 2}, M = 3"),
    (MASKED, "rng", RNG.at(row0=2**62), ValueError, str(LAST_ROW), f"row0 = {2**62}, M = 3"),
    (MASKED, "rng", RNG.at(row0=2 * LAST_ROW - 2).tied(2), ValueError, str(LAST_ROW), f"row0 = {2 * LAST_ROW - 2}"),
    (MASKED, "rng", RNG.at(col0=LAST_COL - 3), ValueError, "2**35", f"col0 = {LAST_COL - 3}, columns = "),
    ((fd.linear_backward,), "saved", None, TypeError, "what linear_forward returned", "NoneType"),
    ((fd.linear_backward,), "saved", (RESIDUAL, SAVED), TypeError, "what linear_forward returned", "tuple"),
    ((fd.linear_backward,), "saved", SAVED.x, TypeError, "what linear_forward returned", "ndarray"),
]
RATES = [(LAYER, *row) for name in ("p", "input_p") for row in not_a_probability(name)] + [
    ((fd.dropout, fd.dropout_mask), *row) for row in not_a_probability("p")
]
MASK_SHAPES = [
    ((fd.dropout_mask,), "shape", value, error, "must be", got)
    for value, error, got in [
        ((-1, 2), ValueError, "(-1, 2)"),
        (-1, ValueError, "-1"),
        ((2.0, 3), TypeError, "(2.0, 3)"),
        ("23", TypeError, "'23'"),
        (None, TypeError, "None"),
        (True, TypeError, "True"),
        ((True, 2), TypeError, "(True, 2)"),
        (np.array([2, 3]), TypeError, "array([2, 3])"),
        (2**70, ValueError, str(2**70)),
    ]
]
TABLE = ELEMENT_TYPES + [
    (entry, *row) for entries, *row in SHAPES + DTYPES + NAMES + FLAGS + KEYS + RATES + MASK_SHAPES for entry in entries
]


@pytest.mark.parametrize(
    ("entry", "argument", "value", "error", "wanted", "got"),
    TABLE,
    ids=[f"{row[0].__name__} {name}" for row, name in zip(TABLE, name_rows([row[1:] for row in TABLE]), strict=True)],
)
def test_a_wrong_argument_is_refused(entry, argument, value, error, wanted, got):
    named = "rng." + ("col0" if "col0" in got else "row0") if "0 = " in got else argument
    assert_refused(entry, good(entry) | {argument: value}, error, named, wanted, got)


@pytest.mark.parametrize("entry", LAYER)
def test_a_float64_x_asks_for_a_float64_w(entry):
    assert_refused(entry, good(entry) | {"x": X.astype("f8")}, TypeError, "w", "float64 to match x", "float32")


@pytest.mark.parametrize("entry", LAYER)
def test_input_dropout_asks_for_a_key(entry):
    arguments = good(entry) | {"p": 0.0, "rng": None}
    assert_refused(entry, arguments, ValueError, "rng", "required where input_p > 0", "None")


@pytest.mark.parametrize("value", ["yes", 1, np.zeros(5, np.float32)], ids=["str", "int", "array"])
def test_db_of_a_layer_without_bias_is_not_taken_silently(value):
    """The destination would stay unchanged, and the caller would not notice."""
    _, saved = fd.linear_forward(X, W)
    with pytest.raises((TypeError, ValueError), match=r"^db\b.* must .*; got "):
        fd.linear_backward(DY, saved, db=value)


@pytest.mark.parametrize(
    ("entry", "rng"),
    [
        (entry, rng)
        for entry in (fd.dropout, fd.dropout_mask)
        for rng in [
            RNG.at(row0=LAST_ROW - 3, col0=LAST_COL - 4),
            RNG.at(row0=2 * LAST_ROW - 3).tied(2),
            RNG.at(row0=2**62).tied(period=7),
        ]
    ],
)
def test_the_last_row_and_column_are_in_reach(entry, rng):
    assert entry(**good(entry) | {"rng": rng}).shape == (3, 4)


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**62, 4), (1,) * 65], ids=["2**80", "2**64", "65 axes"])
def test_a_mask_that_no_memory_holds(shape):
    with pytest.raises((ValueError, MemoryError)):
        fd.dropout_mask(shape, p=0.5, rng=RNG)
