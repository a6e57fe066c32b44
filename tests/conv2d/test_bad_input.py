"""Every wrong argument of the convolution is refused before any work, by function and by layer."""

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, not_a_probability

RNG = fd.Philox(seed=1, stream=2, step=3)


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


X, W, B = normal(2, 3, 5, 6), normal(4, 3, 3, 2), normal(4)
Y, SAVED = fd.conv2d_forward(X, W, B, p=0.5, rng=RNG, activation="gelu")
GOOD = {
    "x": X,
    "w": W,
    "b": B,
    "stride": 1,
    "padding": 0,
    "layout": "NCHW",
    "activation": "relu",
    "p": 0.5,
    "rng": RNG,
    "dropout_first": False,
    "input_p": 0.25,
    "granularity": "element",
}
BACKWARD = {"dy": Y, "saved": SAVED, "dx": np.zeros_like(X), "dw": np.zeros_like(W), "db": np.zeros_like(B)}
FORWARD_ROWS = [
    ("x", X.astype(np.float16), TypeError, "float32, float64 or bfloat16", "float16"),
    ("x", X[0], ValueError, "[B, C, H, W], an array of rank 4", "rank 3, shape [3, 5, 6]"),
    ("w", W.astype(np.float64), TypeError, "float32 to match x", "float64"),
    ("w", W[:, :2], ValueError, "[N, C, KH, KW] = [*, 3, *, *] to match x [2, 3, 5, 6]", "[4, 2, 3, 2]"),
    ("w", W[0], ValueError, "[N, C, KH, KW] = [*, 3, *, *]", "[3, 3, 2]"),
    ("w", normal(4, 3, 0, 2), ValueError, "[N, C, KH, KW]", "[4, 3, 0, 2]"),
    ("b", B[:2], ValueError, "[N] = [4] to match w [4, 3, 3, 2]", "[2]"),
    ("b", B.astype(np.float64), TypeError, "float32 to match x", "float64"),
    ("stride", 0, ValueError, "1", "0"),
    ("stride", (1, -1), ValueError, "1", "-1"),
    ("stride", (1, 2, 3), ValueError, "a pair of them", "(1, 2, 3)"),
    ("stride", 1.5, TypeError, "an integer", "1.5"),
    ("padding", -1, ValueError, "0", "-1"),
    ("padding", "same", TypeError, "an integer", "'same'"),
    ("layout", "NWHC", ValueError, "'NCHW' or 'NHWC'", "'NWHC'"),
    ("layout", None, ValueError, "'NCHW' or 'NHWC'", "None"),
    ("activation", "rely", ValueError, "identity", "'rely'"),
    ("rng", 7, TypeError, "a fusedrop.Philox or None", "int"),
    ("dropout_first", 1, TypeError, "True or False", "1"),
    ("granularity", "unit", ValueError, "'element' or 'channel'", "'unit'"),
    *not_a_probability("p"),
    *not_a_probability("input_p"),
]
BACKWARD_ROWS = [
    ("dy", Y[:1], ValueError, "[B, N, OH, OW] = [2, 4, 3, 5] to match y", "[1, 4, 3, 5]"),
    ("dy", Y.astype(np.float64), TypeError, "float32 to match x", "float64"),
    ("saved", None, TypeError, "what conv2d_forward returned", "NoneType"),
    ("dx", np.zeros((2, 3, 5, 5), np.float32), ValueError, "[B, C, H, W] = [2, 3, 5, 6]", "[2, 3, 5, 5]"),
    ("dw", np.zeros_like(W).T, ValueError, "[N, C, KH, KW] = [4, 3, 3, 2]", "[2, 3, 3, 4]"),
    ("db", 3, TypeError, "True, False or an array", "3"),
]


def test_the_unspoiled_arguments_are_accepted():
    fd.conv2d(**GOOD)
    fd.conv2d_forward(**GOOD)
    fd.conv2d_backward(**BACKWARD)


@pytest.mark.parametrize("function", [fd.conv2d, fd.conv2d_forward])
@pytest.mark.parametrize("row", FORWARD_ROWS, ids=lambda row: f"{row[0]}-{row[4]}")
def test_forward_refuses(function, row):
    name, value, error, wanted, got = row
    assert_refused(function, GOOD | {name: value}, error, name, wanted, got)


@pytest.mark.parametrize("row", BACKWARD_ROWS, ids=lambda row: f"{row[0]}-{row[4]}")
def test_backward_refuses(row):
    name, value, error, wanted, got = row
    assert_refused(fd.conv2d_backward, BACKWARD | {name: value}, error, name, wanted, got)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"w": normal(4, 3, 6, 2)}, r"w must not be larger than the padded image: height 6 against 5 \+ 2 \* 0"),
        (
            {"padding": 2**24},
            r"the padded image must not be larger than 2\*\*24 along an axis: height 5 \+ 2 \* 16777216",
        ),
        ({"rng": None}, r"rng is required where p > 0"),
        ({"rng": RNG.at(row0=7)}, r"rng.row0 must be a whole number of images .* multiple of OH \* OW = 15; got 7"),
        ({"rng": RNG.tied(repeat=2), "granularity": "channel"}, r"rng must not be tied where granularity is 'channel'"),
        ({"rng": RNG.at(row0=2**32 - 10), "input_p": 0.0}, r"rng.row0 \+ M must not exceed 4294967295 rows"),
        ({"rng": RNG.at(row0=15 * 2**28), "p": 0.0}, r"rng.row0 \+ M must not exceed 4294967295 rows"),
        (
            {"rng": RNG.at(row0=7), "input_p": 0.0, "granularity": "channel"},
            r"rng.row0 must be a whole number of images",
        ),
    ],
)
def test_arguments_that_do_not_go_together(spoiled, message):
    with pytest.raises(ValueError, match=message):
        fd.conv2d(**(GOOD | spoiled))


def test_shared_memory_is_refused():
    memory = np.zeros(200, np.float32)
    dx, dw = memory[:180].reshape(X.shape), memory[100:172].reshape(W.shape)
    with pytest.raises(ValueError, match="dw must not overlap dx"):
        fd.conv2d_backward(Y, SAVED, dx=dx, dw=dw)
    with pytest.raises(ValueError, match="dx must not overlap x"):
        fd.conv2d_backward(Y, SAVED, dx=X)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_channels": -1}, ValueError, "in_channels must be an integer >= 0; got -1"),
        ({"out_channels": 2.0}, TypeError, "out_channels must be an integer >= 0; got 2.0"),
        (
            {"kernel_size": 0},
            ValueError,
            r"kernel_size must be an integer in \[1, 2147483647\] or a pair of them; got 0",
        ),
        (
            {"kernel_size": (3, True)},
            TypeError,
            r"kernel_size must be an integer .* or a pair of them; got \(3, True\)",
        ),
        ({"stride": (0, 1)}, ValueError, r"stride must be an integer in \[1, 2147483647\] .*; got \(0, 1\)"),
        ({"padding": "same"}, TypeError, r"padding must be an integer in \[0, 2147483647\] .*; got 'same'"),
        ({"layout": "CHW"}, ValueError, "layout must be 'NCHW' or 'NHWC'; got 'CHW'"),
        ({"activation": "rely"}, ValueError, "activation must be .*; got 'rely'"),
        ({"granularity": "unit"}, ValueError, "granularity must be 'element' or 'channel'; got 'unit'"),
        ({"p": 2}, ValueError, r"p must be a number in \[0, 1\]; got 2"),
        ({"dtype": "int8"}, TypeError, "dtype must be float32, float64 or bfloat16; got int8"),
        ({"bias": 1}, TypeError, "bias must be True or False; got 1"),
    ],
)
def test_the_layer_refuses_at_once(options, error, message):
    with pytest.raises(error, match=message):
        fd.Conv2d(**({"in_channels": 3, "out_channels": 4, "kernel_size": 3} | options))


def test_a_refused_call_takes_no_step():
    layer = fd.Conv2d(3, 4, 3, p=0.5, seed=1)
    with pytest.raises(ValueError, match="w must be"):
        layer(normal(2, 2, 5, 5))
    assert layer.mask_key.rng.step == 0
    with pytest.raises(RuntimeError, match=r"Conv2d\.backward needs a forward call first"):
        layer.backward(Y)
