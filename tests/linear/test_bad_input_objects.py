"""Wrong arguments of Philox, the layers, the optimizers, the loss and the settings."""

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows, not_a_probability, not_an_integer

RNG = fd.Philox(seed=1, stream=2, step=3)
U32, U64 = 2**32 - 1, 2**64 - 1
NOT_A_NAME = ("ReLU", "", None, 3)
PARAMETERS = fd.Linear(4, 3, seed=1).parameters()
LOGITS = np.zeros((3, 4), np.float32)


def rows(call, good, spoiled):
    return [(call, good, *row) for row in spoiled]


def unknown(name, wanted, values=NOT_A_NAME, error=ValueError):
    return [(name, value, error, wanted, repr(value)) for value in values]


ORIGIN = not_an_integer("row0", 0, 2**62) + not_an_integer("col0", 0, 2**35)
TIES = not_an_integer("repeat", 1, 2**62) + not_an_integer("period", 1, U32)
PHILOX = (
    rows(fd.Philox, {"seed": 1}, not_an_integer("seed", 0, U64))
    + rows(fd.Philox, {"seed": 1}, [("seed", None, TypeError, f"in [0, {U64}]", "None")])
    + rows(fd.Philox, {"seed": 1}, not_an_integer("stream", 0, U32) + not_an_integer("step", 0, U32))
    + rows(fd.Philox, {"seed": 1}, ORIGIN + TIES)
    + rows(RNG.at, {"row0": 1}, ORIGIN)
    + rows(RNG.tied, {"repeat": 2}, TIES)
)

LINEAR = {"in_features": 4, "out_features": 3, "seed": 1}
SIZES = [
    (name, value, error, ">= 0", repr(value))
    for name in ("in_features", "out_features")
    for value, error in [(-1, ValueError), (1.5, TypeError), ("4", TypeError), (None, TypeError), (True, TypeError)]
]
WIDTHS = [
    ("dtype", value, TypeError, "float32, float64 or bfloat16", got)
    for value, got in [("float16", "float16"), (">f4", ">f4"), (int, "int"), ("half a float", "half"), (None, "None")]
]
LAYERS = (
    rows(fd.Linear, LINEAR, SIZES)
    + rows(fd.Linear, LINEAR, not_a_probability("p") + not_a_probability("input_p"))
    + rows(fd.Linear, LINEAR, unknown("activation", "one of 'identity', 'relu'"))
    + rows(fd.Linear, LINEAR, unknown("granularity", "'element' or 'unit'"))
    + rows(fd.Linear, LINEAR, unknown("dropout_first", "True or False", [1, "yes", None], TypeError))
    + rows(fd.Linear, LINEAR, unknown("bias", "True or False", [1, "no", None], TypeError))
    + rows(fd.Linear, LINEAR, WIDTHS)
    + rows(fd.Linear, LINEAR, unknown("init", "'he', 'xavier'", ["normal", -0.1, float("nan"), float("inf"), True]))
    + rows(fd.Linear, LINEAR, unknown("init", "'he', 'xavier'", [[0.1], 1j], TypeError))
    + rows(fd.Linear, LINEAR, not_an_integer("seed", 0, U64) + not_an_integer("stream", 0, U32))
    + rows(fd.Dropout, {"p": 0.5, "seed": 1}, not_a_probability("p"))
    + rows(fd.Dropout, {"p": 0.5}, unknown("scaling", "'inverted' or 'classic'"))
    + rows(fd.Dropout, {"p": 0.5}, unknown("granularity", "'element' or 'unit'"))
    + rows(fd.Dropout, {"p": 0.5}, not_an_integer("seed", 0, U64) + not_an_integer("stream", 0, U32))
)


def sequential(layers, seed=None):
    return fd.Sequential(*layers, seed=seed)


RELU = [fd.ReLU()]
NETWORKS = rows(sequential, {"layers": RELU}, not_an_integer("seed", 0, U64)) + [
    (sequential, {}, "layers", [value], TypeError, "a fusedrop layer", type(value).__name__)
    for value in (RELU, np.tanh, None, fd.ReLU)
]

RATES = [
    (float("nan"), ValueError, "nan"),
    (-0.1, ValueError, "-0.1"),
    (float("inf"), ValueError, "inf"),
    ("0.1", TypeError, "'0.1'"),
    (None, TypeError, "None"),
    (True, TypeError, "True"),
]
BELOW_ONE = [(value, error, "[0, 1)", got) for value, error, got in [*RATES, (1.0, ValueError, "1.0")]]
SGD, ADAM = {"parameters": PARAMETERS, "lr": 0.1, "momentum": 0.9}, {"parameters": PARAMETERS}
SGD_NUMBERS, ADAM_NUMBERS = ("lr", "l1", "l2"), ("lr", "l1", "l2", "eps")
OPTIMIZERS = (
    [
        (call, good, name, value, error, ">= 0", got)
        for call, good, names in [(fd.training.SGD, SGD, SGD_NUMBERS), (fd.training.Adam, ADAM, ADAM_NUMBERS)]
        for name in names
        for value, error, got in RATES
    ]
    + [(fd.training.SGD, SGD, "momentum", *row) for row in BELOW_ONE]
    + rows(fd.training.SGD, SGD | {"momentum": 0.0}, [("nesterov", True, ValueError, "momentum > 0", "momentum 0")])
    + [
        (fd.training.Adam, ADAM, "betas", value, error, "[0, 1)", got)
        for value, error, got in [
            ((0.9, 1.0), ValueError, "1.0"),
            ((-0.1, 0.9), ValueError, "-0.1"),
            ((0.9, "0.9"), TypeError, "'0.9'"),
            (0.9, TypeError, "0.9"),
            ((0.9,), ValueError, "(0.9,)"),
            ((0.9, 0.99, 0.999), ValueError, "(0.9, 0.99, 0.999)"),
        ]
    ]
    + [
        (call, good, "parameters", value, TypeError, "Parameter", got)
        for call, good in [(fd.training.SGD, SGD), (fd.training.Adam, ADAM)]
        for value, got in [
            ([np.zeros(3)], "ndarray"),
            (fd.Sequential(fd.Linear(2, 2)), "Linear"),
            (fd.Linear(2, 2), "Linear"),
            (None, "NoneType"),
        ]
    ]
)

HALF_A_ROW = np.vstack([np.eye(2, 4), [[0, 0, 0, 0.5]]])
LABELS = rows(
    fd.softmax_cross_entropy,
    {"logits": LOGITS},
    [
        ("labels", np.array([0, 1]), ValueError, "[M] = [3] to match logits [3, 4]", "[2]"),
        ("labels", np.array([0, 1, 4]), ValueError, "in [0, 4)", "4"),
        ("labels", np.array([0, -1, 2]), ValueError, "in [0, 4)", "-1"),
        ("labels", np.array([0.0, 1, 2]), TypeError, "integers", "float64"),
        ("labels", np.array([True, False, True]), TypeError, "integers", "bool"),
        ("labels", np.eye(3, 5), ValueError, "[M, N] = [3, 4]", "[3, 5]"),
        ("labels", np.zeros((3, 1), int), ValueError, "[M] = [3] or [M, N] = [3, 4]", "[3, 1]"),
        ("labels", np.array(1), ValueError, "[M] = [3] or [M, N] = [3, 4]", "[]"),
        ("labels", HALF_A_ROW, ValueError, "sum to 1", "0.5"),
        ("labels", np.full((3, 4), np.nan), ValueError, "sum to 1", "nan"),
        ("labels", np.array([[2.0, -1, 0, 0]] * 3), ValueError, ">= 0", "-1"),
        ("labels", np.eye(3, 4) + 0j, TypeError, "real numbers", "complex128"),
        ("labels", np.full((3, 4), "a"), TypeError, "real numbers", "<U1"),
        ("labels", ["a", "b", "c"], TypeError, "integers", "<U1"),
    ],
)
SETTINGS = [
    (fd.config.set_isa, {}, "isa", "sse2", ValueError, "scalar", "'sse2'"),
    (fd.config.set_isa, {}, "isa", "", ValueError, "scalar", "''"),
    (fd.config.set_isa, {}, "isa", None, TypeError, "scalar", "None"),
    (fd.config.set_isa, {}, "isa", 2, TypeError, "scalar", "2"),
    (fd.config.set_num_threads, {}, "threads", None, TypeError, "an integer", "None"),
    *rows(fd.config.set_num_threads, {}, not_an_integer("threads", 0, 4096)),
]
TABLE = PHILOX + LAYERS + NETWORKS + OPTIMIZERS + LABELS + SETTINGS


@pytest.mark.parametrize(
    ("call", "good", "argument", "value", "error", "wanted", "got"),
    TABLE,
    ids=[f"{row[0].__name__} {name}" for row, name in zip(TABLE, name_rows([row[2:] for row in TABLE]), strict=True)],
)
def test_a_wrong_argument_is_refused(call, good, argument, value, error, wanted, got):
    keyword = "name" if call is fd.config.set_isa else argument
    assert_refused(call, good | {keyword: value}, error, argument, wanted, got)


def test_a_setting_that_was_refused_changes_nothing():
    before = fd.config.get_isa(), fd.config.get_num_threads()
    for call, value in [(fd.config.set_isa, "sse2"), (fd.config.set_num_threads, -1)]:
        with pytest.raises(ValueError, match="must be"):
            call(value)
    assert (fd.config.get_isa(), fd.config.get_num_threads()) == before
