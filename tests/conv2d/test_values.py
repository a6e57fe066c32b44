"""The fused convolution against its specification: values, gradients, masks, layouts, threads."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from fusedrop import reference
from fusedrop.reference.bounds import LinearBounds
from running_error import assert_within

RNG = fd.Philox(seed=7, stream=3, step=11)
# (B, C, H, W, N, kernel, stride, padding): single pixels, channels below, at and above a vector and a strip, kernels
# smaller than their stride, strides that leave pixels unseen, more pixels than a chunk or a block of K, rows longer
# than a chunk, strides with phases that no tap meets.
CASES = [
    (1, 1, 1, 1, 1, 1, 1, 0),
    (2, 3, 8, 8, 33, 5, 1, 2),
    (3, 16, 7, 9, 10, 3, 2, 1),
    (2, 5, 6, 5, 64, 1, 1, 0),
    (1, 4, 9, 9, 7, (3, 2), (2, 3), (1, 0)),
    (2, 6, 10, 11, 5, (2, 3), (3, 1), 0),
    (2, 3, 5, 6, 4, 1, 2, 0),
    (2, 32, 5, 5, 40, 3, 1, 1),
    (2, 2, 3, 3, 260, 3, 1, 1),
    (1, 70, 4, 4, 3, 4, 1, 2),
    (5, 2, 16, 17, 3, 2, 1, 0),
    (300, 2, 3, 3, 4, 2, 1, 1),
    (2, 2, 2, 1500, 3, (1, 3), 1, (0, 1)),
    (1, 2, 3, 2100, 3, (2, 3), (1, 2), 1),
    (2, 3, 9, 9, 4, 2, 5, 0),
]
LAYOUTS = ["NCHW", "NHWC"]


def normal(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def image(b, c, h, w, layout, dtype, seed):
    """The same numbers in either layout."""
    a = normal((b, c, h, w), dtype, seed)
    return a if layout == "NCHW" else np.ascontiguousarray(a.transpose(0, 2, 3, 1))


def arrays(case, layout, dtype):
    """x, w, b and the other options of the case."""
    b, c, h, w, n, kernel, stride, padding = case
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    options = {"stride": stride, "padding": padding, "layout": layout}
    return image(b, c, h, w, layout, dtype, 1), normal((n, c, *kernel), dtype, 2), normal(n, dtype, 4), options


def channels_last(a, layout):
    return a if layout == "NHWC" else a.transpose(0, 2, 3, 1)


def check(case, dtype, layout="NCHW", *, with_bias=True, eps=None, **options):
    x, w, b, sizes = arrays(case, layout, dtype)
    b = b if with_bias else None
    y, saved = fd.conv2d_forward(x, w, b, **sizes, **options)
    want_y, want = reference.conv2d_forward(x, w, b, **sizes, **options)
    dy = normal(y.shape, dtype, 3)
    got = fd.conv2d_backward(dy, saved)
    wanted = reference.conv2d_backward(dy, want)
    rows = channels_last(dy, layout).reshape(want.linear.z.shape)
    bounds = LinearBounds(want.linear, b, np.finfo(dtype).eps if eps is None else eps)
    assert all(a.flags.c_contiguous and a.dtype == x.dtype for a in (y, *got) if a is not None)
    flat_y = channels_last(want_y, layout).reshape(rows.shape)
    assert_within(channels_last(y, layout).reshape(rows.shape), flat_y, bounds.y(flat_y), "y")
    columns, dw, db = bounds.gradients(rows)
    columns = columns.reshape(*want.y_shape[:3], -1)
    # A chain over all taps has KH*KW times the terms of one tap's, so its bound at most as many times their sum.
    dx = fold_of(columns, want) * w.shape[2] * w.shape[3] * reference.scale(want.input_p)
    assert_within(channels_last(got[0], layout), channels_last(wanted[0], layout), dx, "dx")
    assert_within(got[1], wanted[1], dw.reshape(w.shape), "dw")
    if with_bias:
        assert_within(got[2], wanted[2], db, "db")
    else:
        assert got[2] is None


def fold_of(columns, saved):
    return reference.fold(columns, saved.keep_x.shape, saved.w_shape[2:], saved.stride, saved.padding)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_backward(isa, dtype, layout):
    for case in CASES:
        check(case, dtype, layout, activation="relu", p=0.3, rng=RNG)
        check(case, dtype, layout, activation="tanh", p=0.3, rng=RNG, input_p=0.2, with_bias=False)


@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
@pytest.mark.parametrize("activation", fd.activations)
def test_activations_orders_and_granularities(isa, activation, granularity, dropout_first):
    options = {"activation": activation, "granularity": granularity, "dropout_first": dropout_first}
    for layout in LAYOUTS:
        check(CASES[2], "float32", layout, p=0.4, input_p=0.25, rng=RNG, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16(every_isa, layout):
    """Sums are float32: against the specification of the rounded inputs, only the stores round to 2^-8."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    for case in CASES[1:4]:
        x, w, b, sizes = arrays(case, layout, ml_dtypes.bfloat16)
        options = {"activation": "relu", "p": 0.3, "input_p": 0.2, "rng": RNG}
        y, saved = fd.conv2d_forward(x, w, b, **sizes, **options)
        single = [a.astype(np.float32) for a in (x, w, b)]
        want = fd.conv2d(*single, **sizes, **options)
        assert y.dtype == x.dtype
        assert_within(y.astype(np.float32), want, 2.0**-8 * np.abs(want) + 1e-37, "y")
        got = fd.conv2d_backward(y, saved)
        wanted = fd.conv2d_backward(y.astype(np.float32), fd.conv2d_forward(*single, **sizes, **options)[1])
        for name, a, want in zip(("dx", "dw", "db"), got, wanted, strict=True):
            # relu's derivative is read from y, whose sign no rounding changes; sums of dz are of rounded dz in neither.
            assert_within(a.astype(np.float32), want, 2.0**-7 * np.abs(want) + 2.0**-20 * np.abs(want).max(), name)


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_masks_are_the_contracts_in_both_layouts(isa, granularity):
    """Identity over ones through a kernel of one pixel shows the mask itself."""
    x = np.ones((3, 5, 6, 40), np.float32)
    w = np.eye(40, dtype=np.float32)[:, :, None, None]
    rng = RNG.at(row0=4 * 30)
    tied = rng.tied(repeat=30) if granularity == "channel" else rng
    keep = fd.dropout_mask((3, 5, 6, 40), p=0.5, rng=tied)
    options = {"p": 0.5, "rng": rng, "granularity": granularity}
    y = fd.conv2d(x, w, layout="NHWC", **options)
    assert np.array_equal(y, np.where(keep, 2, 0))
    first = fd.conv2d(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w, **options)
    assert np.array_equal(first, y.transpose(0, 3, 1, 2))
    if granularity == "channel":
        assert (keep == keep[:, :1, :1]).all()


def test_input_mask_is_the_contracts(isa):
    """Row (b*H + h)*W + w of the flipped stream, whatever the size of y; channel dropout ties an image's pixels."""
    x, w = np.ones((2, 5, 5, 16), np.float32), np.eye(16, dtype=np.float32)[:, :, None, None]
    flipped = fd.Philox(RNG.seed, RNG.stream ^ 0x80000000, RNG.step)
    for granularity, key in (("element", flipped), ("channel", flipped.tied(repeat=25))):
        keep = fd.dropout_mask(x.shape, p=0.5, rng=key)
        y = fd.conv2d(x, w, layout="NHWC", stride=2, input_p=0.5, rng=RNG, granularity=granularity)
        assert np.array_equal(y, np.where(keep, 2, 0)[:, ::2, ::2])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shard_of_images_draws_its_part(isa, layout):
    x, w, b, sizes = arrays((6, 3, 5, 7, 9, 3, 2, 1), layout, np.float32)
    for granularity in ("element", "channel"):
        options = {"p": 0.5, "input_p": 0.3, "activation": "gelu", "granularity": granularity, **sizes}
        whole, saved = fd.conv2d_forward(x, w, b, rng=RNG, **options)
        shard, part = fd.conv2d_forward(x[4:], w, b, rng=RNG.at(row0=4 * 3 * 4), **options)
        assert np.array_equal(shard, whole[4:])
        dy = normal(whole.shape, np.float32, 3)
        assert np.array_equal(fd.conv2d_backward(dy[4:], part)[0], fd.conv2d_backward(dy, saved)[0][4:])


def test_channel_masks_reach_beyond_the_rows_of_pixels():
    """Row b of a channel mask may be any below 2^32 - 1, however many pixels the images before it had."""
    x, w = np.ones((2, 40, 4, 4), np.float32), np.eye(40, dtype=np.float32)[:, :, None, None]
    first = 2**32 - 3
    y = fd.conv2d(x, w, p=0.5, rng=RNG.at(row0=first * 16), granularity="channel")
    keep = fd.dropout_mask((2, 40), p=0.5, rng=RNG.at(row0=first))
    assert np.array_equal(y, np.broadcast_to(np.where(keep, 2, 0)[:, :, None, None], y.shape))


@pytest.mark.parametrize("stride", [2**24, 2**31 - 1])
def test_a_stride_beyond_the_image_costs_nothing(stride):
    x, w = normal((1, 4, 8, 8), np.float32, 1), normal((3, 4, 3, 3), np.float32, 2)
    y, saved = fd.conv2d_forward(x, w, stride=stride)
    assert np.array_equal(y, fd.conv2d(x[:, :, :3, :3], w))
    dx, dw, _ = fd.conv2d_backward(np.ones_like(y), saved)
    assert np.array_equal(dx[0, :, :3, :3], w.sum(axis=0, dtype=np.float32))
    assert not dx[:, :, 3:].any()
    assert not dx[:, :, :, 3:].any()
    assert np.array_equal(dw, np.broadcast_to(x[:, :, :3, :3], w.shape))


def test_bfloat16_input_gradients_are_rounded_once(every_isa):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x, w, _, _ = arrays(CASES[7], "NHWC", ml_dtypes.bfloat16)
    options = {"layout": "NHWC", "padding": 1, "input_p": 0.3, "rng": RNG}
    y, saved = fd.conv2d_forward(x, w, **options)
    wide_saved = fd.conv2d_forward(x.astype(np.float32), w.astype(np.float32), **options)[1]
    dx = fd.conv2d_backward(y, saved)[0]
    want = fd.conv2d_backward(y.astype(np.float32), wide_saved)[0]
    assert np.array_equal(dx, want.astype(ml_dtypes.bfloat16))


def test_layouts_agree_to_the_bit(isa):
    for case in CASES:
        results = []
        for layout in LAYOUTS:
            x, w, b, sizes = arrays(case, layout, np.float32)
            y, saved = fd.conv2d_forward(x, w, b, activation="silu", p=0.3, input_p=0.1, rng=RNG, **sizes)
            dx, dw, db = fd.conv2d_backward(y, saved)
            results.append((channels_last(y, layout), channels_last(dx, layout), dw, db))
        for first, last in zip(*results, strict=True):
            assert np.array_equal(first, last)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_threads_gives_the_same_bits(isa, threads, layout):
    x, w, b, sizes = arrays((3, 20, 16, 16, 48, 3, 1, 1), layout, np.float32)

    def run(count):
        threads(count)
        y, saved = fd.conv2d_forward(x, w, b, activation="relu", p=0.5, input_p=0.2, rng=RNG, **sizes)
        return y, *fd.conv2d_backward(y, saved)

    one = run(1)
    for count in (2, 3, 7):
        assert all(np.array_equal(a, c) for a, c in zip(one, run(count), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_inputs(isa, layout):
    x, w, b, sizes = arrays(CASES[2], layout, np.float32)
    options = {"activation": "relu", "p": 0.3, "input_p": 0.2, "rng": RNG, **sizes}
    y, saved = fd.conv2d_forward(x, w, b, **options)
    wide = np.zeros(tuple(2 * n for n in x.shape), np.float32)
    wide[::2, 1::2, ::2, 1::2] = x
    views = wide[::2, 1::2, ::2, 1::2], w[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1], np.repeat(b, 3)[::3]
    other, other_saved = fd.conv2d_forward(*views, **options)
    assert np.array_equal(y, other)
    dy = normal(y.shape, np.float32, 3)
    for a, c in zip(fd.conv2d_backward(dy, saved), fd.conv2d_backward(np.asfortranarray(dy), other_saved), strict=True):
        assert np.array_equal(a, c)


@pytest.mark.parametrize("dx", [True, False])
@pytest.mark.parametrize("dw", [True, False])
@pytest.mark.parametrize("db", [True, False])
def test_each_gradient_alone(dx, dw, db):
    x, w, b, sizes = arrays(CASES[1], "NCHW", np.float32)
    y, saved = fd.conv2d_forward(x, w, b, p=0.3, rng=RNG, **sizes)
    whole = fd.conv2d_backward(y, saved)
    got = fd.conv2d_backward(y, saved, dx=dx, dw=dw, db=db)
    for wanted, gradient, want in zip((dx, dw, db), got, whole, strict=True):
        assert gradient is None if not wanted else np.array_equal(gradient, want)


def test_destinations_are_filled_and_returned():
    x, w, b, sizes = arrays(CASES[1], "NCHW", np.float32)
    y, saved = fd.conv2d_forward(x, w, b, p=0.3, rng=RNG, **sizes)
    mine = [np.full_like(a, np.nan) for a in (x, w, b)]
    got = fd.conv2d_backward(y, saved, dx=mine[0], dw=mine[1], db=mine[2])
    for given, returned, want in zip(mine, got, fd.conv2d_backward(y, saved), strict=True):
        assert given is returned
        assert np.array_equal(given, want)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zero", ["B", "C", "N"])
def test_empty(isa, layout, zero):
    b, c, n = (0 if zero == name else size for name, size in (("B", 2), ("C", 3), ("N", 4)))
    x = image(b, c, 5, 5, layout, np.float32, 1)
    w, bias = normal((n, c, 3, 3), np.float32, 2), normal(n, np.float32, 4)
    y, saved = fd.conv2d_forward(x, w, bias, layout=layout)
    dx, dw, db = fd.conv2d_backward(np.ones_like(y), saved)
    assert channels_last(y, layout).shape == (b, 3, 3, n)
    assert np.array_equal(dx, np.zeros_like(x))
    assert np.array_equal(dw, np.zeros_like(w))
    assert np.array_equal(db, np.full(n, 9.0 * b, np.float32))
    if zero == "C":
        assert (channels_last(y, layout) == bias).all()


def test_dropped_nan_is_zero_and_kept_nan_is_seen(isa):
    x = np.full((1, 4, 4, 32), np.nan, np.float32)
    w = np.eye(32, dtype=np.float32)[:, :, None, None] * np.nan
    keep = fd.dropout_mask(x.shape, p=0.5, rng=RNG)
    y, saved = fd.conv2d_forward(x, w, layout="NHWC", activation="relu", p=0.5, rng=RNG)
    assert np.array_equal(np.isnan(y), keep)
    assert (y[~keep] == 0).all()
    db = fd.conv2d_backward(np.full_like(y, np.inf), saved, dx=False, dw=False)[2]
    assert db is None


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_specification_by_finite_differences(granularity):
    """The specification's own gradients: nothing else checks them."""
    x, w, b = normal((2, 2, 5, 4), np.float64, 1), normal((3, 2, 3, 2), np.float64, 2), normal(3, np.float64, 4)
    options = {"stride": (2, 1), "padding": (1, 0), "activation": "gelu", "p": 0.4, "input_p": 0.2}
    options |= {"rng": RNG, "granularity": granularity}
    y, saved = reference.conv2d_forward(x, w, b, **options)
    dy = normal(y.shape, np.float64, 3)
    gradients = reference.conv2d_backward(dy, saved)

    def loss():
        return float((reference.conv2d(x, w, b, **options) * dy).sum())

    for name, array, gradient in zip(("x", "w", "b"), (x, w, b), gradients, strict=True):
        assert_gradient(loss, array, gradient, operations=500, name=name)
