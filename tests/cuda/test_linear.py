"""y, dx, dw and db of the CUDA module against the float64 reference, within the bounds that all roundings add up to."""

import fusedrop as fd
import numpy as np
import pytest
from cuda_devices import DTYPES, HALF, LEAST, draw, torch, wide
from fusedrop import _core, reference
from fusedrop.reference.bounds import RoundedBounds
from running_error import assert_within

RNG = fd.Philox(seed=2**63 + 7, stream=3, step=11).at(row0=5, col0=64)
# (M, K, N): single elements, odd sizes, sizes around a tile's edge, more than one block of rows, long and short K
SHAPES = [(1, 1, 1), (2, 3, 5), (33, 65, 40), (129, 31, 66), (130, 72, 131), (40, 300, 17), (257, 8, 9)]
# Few tiles with long sums: K, N and M are split in y, dx and dw; more rows than db adds in one chunk.
SPLIT = [(33, 1111, 45), (40, 30, 600), (530, 20, 24), (2200, 3, 5)]
LARGE = [(1420, 40, 1430), (1420, 1430, 8), (8, 1420, 1430)]  # y, dx and dw have tiles of 128x128
TF32 = 2.0**-10  # two factors, each rounded to 11 significant bits


def check(device, dtype, shape, activation="relu", strided=None, tf32=0.0, b=True, residual=False, **options):
    """Forward and backward, with arrays that `strided` makes from C-contiguous ones."""
    M, K, N = shape
    strided = strided or (lambda t: t)
    x, w, dy = draw((M, K), 1, dtype), draw((N, K), 2, dtype), draw((M, N), 4, dtype)
    b = draw(N, 3, dtype) if b else None
    options |= {"rng": options.get("rng", RNG), "activation": activation}
    given = dict(options)
    if residual:
        options["residual"] = draw((M, N), 5, dtype)
        given["residual"] = strided(device.tensor(options["residual"], dtype))
    if "active_inputs" in options:
        given["active_inputs"] = device.tensor(options["active_inputs"])
    tensors = [strided(device.tensor(a, dtype)) for a in (x, w)]
    y, saved = device.linear_forward(*tensors, None if b is None else device.tensor(b, dtype), **given)
    want, want_saved = reference.linear_forward(x, w, b, **options)
    bounds = RoundedBounds(want_saved, b, HALF[dtype], LEAST[dtype], tf32)
    assert y.dtype == DTYPES[dtype]
    assert y.is_contiguous()
    assert_within(wide(y), want, bounds.y(want, options.get("residual")), "y")
    gradients = device.linear_backward(strided(device.tensor(dy, dtype)), saved)
    wanted = reference.linear_backward(dy, want_saved)
    for name, got, expected, bound in zip(("dx", "dw", "db"), gradients, wanted, bounds.gradients(dy), strict=True):
        assert (got is None) == (expected is None), name
        if got is not None:
            assert got.dtype == DTYPES[dtype]
            assert_within(wide(got), expected, bound, name)
    return y, saved, gradients


@pytest.mark.parametrize("shape", SHAPES + SPLIT, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes(device, dtype, shape):
    check(device, dtype, shape, p=0.3)


@pytest.mark.parametrize("dropout_first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("activation", fd.activations)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(device, dtype, activation, dropout_first):
    check(device, dtype, (35, 41, 38), activation, p=0.3, dropout_first=dropout_first)
    check(device, dtype, (35, 41, 38), activation, p=0.3, dropout_first=dropout_first, residual=True)


@pytest.mark.parametrize("granularity", ["element", "unit"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_input_dropout(device, dtype, granularity):
    check(device, dtype, (37, 70, 45), "silu", input_p=0.4, granularity=granularity)
    check(device, dtype, (37, 70, 45), "relu", p=0.5, input_p=0.4, granularity=granularity, residual=True)


@pytest.mark.parametrize("activation", ["identity", "relu", "gelu", "sigmoid"])
@pytest.mark.parametrize("dropout_first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_dropout(device, dtype, dropout_first, activation):
    for p in (0.01, 0.5, 0.97, 1.0):
        check(device, dtype, (34, 33, 71), activation, p=p, granularity="unit", dropout_first=dropout_first)
    check(device, dtype, (34, 33, 71), activation, p=0.5, granularity="unit", residual=True)


@pytest.mark.parametrize("active", ["none", "some", "all"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_active_inputs(device, dtype, active):
    columns = {"none": np.zeros(70, bool), "some": np.arange(70) % 3 == 1, "all": np.ones(70, bool)}[active]
    _, _, (dx, _, _) = check(device, dtype, (37, 70, 45), "relu", p=0.3, active_inputs=columns)
    assert not wide(dx)[:, ~columns].any()
    check(device, dtype, (37, 70, 45), "gelu", input_p=0.4, granularity="unit", active_inputs=columns)


def transposed(t):
    return t.t().contiguous().t()


def sliced(t):
    """Every second column, from the fourth one, of padded rows."""
    M, N = t.shape
    around = torch.full((M, 2 * N + 7), float("nan"), dtype=t.dtype, device=t.device)
    around[:, 3 : 3 + 2 * N : 2] = t
    return around[:, 3 : 3 + 2 * N : 2]


def shifted(t):
    """Rows that begin at an odd element, so that not every row begins at a multiple of 16 bytes."""
    M, N = t.shape
    around = torch.full((M, N + 3), float("nan"), dtype=t.dtype, device=t.device)
    around[:, 1 : N + 1] = t
    return around[:, 1 : N + 1]


@pytest.mark.parametrize("strided", [transposed, sliced, shifted])
@pytest.mark.parametrize("dtype", DTYPES)
def test_strides(device, dtype, strided):
    for input_p in (0.0, 0.2):
        check(device, dtype, (35, 72, 40), "gelu", strided, p=0.3, input_p=input_p, residual=True)
    check(device, dtype, (35, 72, 40), "relu", strided, p=0.5, granularity="unit")


@pytest.mark.parametrize("strided", [None, transposed])
@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tiles(device, dtype, shape, strided):
    check(device, dtype, shape, strided=strided, p=0.3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_rows_and_bias(device, dtype):
    """Strides of 0: x's rows are one row, b is one number."""
    x, w, b = draw(20, 1, dtype), draw((9, 20), 2, dtype), draw(1, 3, dtype)
    y = device.linear(device.tensor(x, dtype).expand(6, 20), device.tensor(w, dtype), device.tensor(b, dtype).expand(9))
    want, saved = reference.linear_forward(np.tile(x, (6, 1)), w, np.repeat(b, 9))
    bounds = RoundedBounds(saved, np.repeat(b, 9), HALF[dtype], LEAST[dtype])
    assert_within(wide(y), want, bounds.y(want), "y")


@pytest.mark.parametrize("empty", ["M", "N", "K", "MNK"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(device, dtype, empty):
    M, K, N = (0 if name in empty else size for name, size in (("M", 5), ("K", 7), ("N", 6)))
    y, _, (dx, dw, db) = check(device, dtype, (M, K, N), "gelu", p=0.3, input_p=0.1)
    assert (y.shape, dx.shape, dw.shape, db.shape) == ((M, N), (M, K), (N, K), (N,))
    for granularity in ("element", "unit"):
        check(device, dtype, (M, K, N), "relu", p=0.3, input_p=0.1, granularity=granularity, residual=True)


def test_without_bias(device):
    _, _, (_, _, db) = check(device, "float32", (20, 30, 25), p=0.3, b=False)
    assert db is None


def test_tf32(device):
    """TF32 is an option, off by default. A backward call multiplies as its forward call did."""
    shape = (40, 100, 37)
    exact, _, _ = check(device, "float32", shape, "silu", p=0.3)
    assert _core.get_tf32() is False
    _core.set_tf32(True)
    try:
        rounded, saved, want = check(device, "float32", shape, "silu", p=0.3, tf32=TF32)
        assert not torch.equal(exact, rounded)
    finally:
        _core.set_tf32(False)
    again = device.linear_backward(device.tensor(draw((40, 37), 4), "float32"), saved)
    assert all(torch.equal(a, b) for a, b in zip(again, want, strict=True))
    with pytest.raises(TypeError, match="on must be True or False; got 1"):
        _core.set_tf32(1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(device, dtype):
    """A NaN or Inf that is dropped gives 0, forward and backward; one that is not dropped propagates."""
    x, w = draw((24, 16), 1, dtype), draw((32, 16), 2, dtype)
    x[3], x[5] = np.nan, np.inf
    keep = reference.dropout_mask((24, 32), p=0.5, rng=RNG)
    for activation in ("identity", "relu"):
        y = wide(device.linear(device.tensor(x, dtype), device.tensor(w, dtype), activation=activation, p=0.5, rng=RNG))
        assert not y[~keep].any()
        assert np.isnan(y[3][keep[3]]).all()
        assert not np.isfinite(y[5][keep[5]]).all()
    y, saved = device.linear_forward(
        device.tensor(draw((24, 16), 1, dtype), dtype), device.tensor(w, dtype), p=1.0, rng=RNG
    )
    assert not wide(y).any()
    dy = device.empty((24, 32), dtype)
    assert not any(wide(g).any() for g in device.linear_backward(dy, saved)[:2])


def test_destinations(device):
    x, w, b, dy = (device.tensor(draw(s, i), "float32") for i, s in enumerate(((9, 7), (5, 7), 5, (9, 5))))
    out = device.empty((9, 5))
    y, saved = device.linear_forward(x, w, b, activation="relu", p=0.2, rng=RNG, out=out)
    assert y is out
    assert torch.equal(y, device.linear(x, w, b, activation="relu", p=0.2, rng=RNG))
    dw = device.empty((5, 7))
    dx, got, db = device.linear_backward(dy, saved, dx=False, dw=dw)
    want = device.linear_backward(dy, saved)
    assert dx is None
    assert got is dw
    assert torch.equal(dw, want[1])
    assert torch.equal(db, want[2])


def test_the_context_says_what_it_saves(device):
    x, w = device.tensor(draw((9, 7), 1), "float32"), device.tensor(draw((64, 7), 2), "float32")
    for activation, kind in (("identity", "nothing"), ("relu", "y"), ("gelu", "z")):
        y, saved = device.linear_forward(x, w, activation=activation, p=0.5, rng=RNG, granularity="unit")
        assert saved.kind == kind
        assert saved.x.data_ptr() == x.data_ptr()
        assert saved.w.data_ptr() == w.data_ptr()
        assert saved.saved_activation is y if kind == "y" else (saved.saved_activation is None) == (kind == "nothing")
        active = saved.active_outputs
        assert active.dtype == torch.bool
        assert np.array_equal(wide(active), fd.dropout_mask((1, 64), p=0.5, rng=RNG, granularity="unit")[0])
    for options in ({"p": 0.5}, {"p": 0.0, "granularity": "unit"}):
        assert device.linear_forward(x, w, rng=RNG, **options)[1].active_outputs is None


@pytest.mark.parametrize("activation", ["identity", "tanh", "silu"])
def test_gradients_from_the_parts_of_a_context(device, activation):
    x, w, dy = (device.tensor(draw(s, i), "float32") for i, s in enumerate(((9, 7), (5, 7), (9, 5))))
    _, saved = device.linear_forward(x, w, None, activation=activation, p=0.3, input_p=0.2, rng=RNG)
    saved_activation, rates = saved.saved_activation, (0.3, RNG, False, 0.2)
    again = _core.linear_gradients(
        dy, x, w, saved_activation, False, False, activation, *rates, "element", True, True, True
    )
    for got, want in zip(again, device.linear_backward(dy, saved), strict=True):
        assert got is want is None or torch.equal(got, want)


def test_a_context_keeps_its_arrays_alive(device):
    """The operands stay alive although the caller releases them and other arrays are allocated."""

    def forward():
        x, w, b = (device.tensor(draw(s, i), "float32") for i, s in enumerate(((99, 70), (50, 70), 50)))
        return device.linear_forward(x, w, b, activation="relu", p=0.3, rng=RNG)[1]

    dy = device.tensor(draw((99, 50), 9), "float32")
    want = device.linear_backward(dy, forward())
    saved = forward()
    others = [device.empty(s) for s in ((99, 70), (50, 70), (99, 50)) for _ in range(20)]
    for got, expected in zip(device.linear_backward(dy, saved), want, strict=True):
        assert torch.equal(got, expected)
    assert len(others) == 60


def test_a_context_owns_the_list_of_active_inputs(device):
    x, w = device.tensor(draw((9, 70), 1), "float32"), device.tensor(draw((50, 70), 2), "float32")
    active = device.tensor(np.arange(70) % 3 == 1)
    dy = device.tensor(draw((9, 50), 9), "float32")
    saved = device.linear_forward(x, w, active_inputs=active)[1]
    want = device.linear_backward(dy, saved)
    active.data = device.empty((70,), "bool", False)  # its storage has no other owner than the context now
    others = [device.empty((70,), "bool", False) for _ in range(20)]
    for got, expected in zip(device.linear_backward(dy, saved)[:2], want[:2], strict=True):
        assert torch.equal(got, expected)
    assert len(others) == 20


def test_the_same_bits_every_time(device):
    """The order of sums does not depend on the timing."""
    a, b = (check(device, "bfloat16", (70, 140, 66), "gelu", p=0.3, input_p=0.1) for _ in range(2))
    assert torch.equal(a[0], b[0])
    assert all(torch.equal(g, h) for g, h in zip(a[2], b[2], strict=True))
