"""Pooling equals its reference in every instruction set, layout and dtype: maxima to the bit, means in a bound."""

import itertools

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from fusedrop import reference
from refusals import assert_refused
from running_error import assert_within

LAYOUTS = ("NCHW", "NHWC")
layouts = pytest.mark.parametrize("layout", LAYOUTS)

# (kernel_size, stride, padding, ceil_mode)
OPTIONS = [
    (3, 2, 0, False),
    (3, 2, 1, True),
    (2, None, 0, True),
    (3, 1, 1, False),
    ((3, 2), (1, 3), (1, 0), False),
    ((5, 4), (3, 2), (2, 2), True),
    ((1, 3), (2, 5), (0, 1), True),
    (1, 2, 0, False),
    (7, None, (3, 2), False),
]
options = pytest.mark.parametrize("sizes", OPTIONS, ids=lambda o: " ".join(map(str, o)).replace(", ", "x"))
# B, C, H, W: tiles' edges are at 16 channels, and at 128 lanes of planes
SHAPES = [(2, 3, 7, 7), (1, 17, 8, 11), (3, 1, 9, 37), (2, 33, 7, 8)]


def arguments(sizes):
    kernel, stride, padding, ceil_mode = sizes
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}


def laid_out(a, layout):
    """C-contiguous, from [B, C, H, W]."""
    return np.ascontiguousarray(a if layout == "NCHW" else a.transpose(0, 2, 3, 1))


def whole_numbers(shape, dtype, seed=0, low=-6, high=7):
    """Many ties, and sums without rounding."""
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def same(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


def bfloat16():
    return pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16


@layouts
@options
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_maximum_is_the_reference(every_isa, dtype, sizes, layout):
    dtype = bfloat16() if dtype == "bfloat16" else dtype
    for shape in SHAPES[:2]:
        x = laid_out(whole_numbers(shape, dtype), layout)
        want, want_saved = reference.max_pool2d_forward(x, **arguments(sizes), layout=layout)
        y, saved = fd.max_pool2d_forward(x, **arguments(sizes), layout=layout)
        same(y, want.astype(dtype))
        same(saved.positions, laid_out(want_saved.positions, layout).astype(np.uint8))
        dy = whole_numbers(y.shape, dtype, 1)
        dx = fd.max_pool2d_backward(dy, saved)
        same(dx, reference.max_pool2d_backward(dy, want_saved).astype(dtype))


@layouts
@options
@pytest.mark.parametrize("count", [True, False], ids=["padding counts", "image counts"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_mean_is_the_reference(every_isa, dtype, count, sizes, layout):
    """A sum of n terms, a divisor rounded once, a division: n + 3 roundings of the mean of |x|; then the storage's."""
    dtype = bfloat16() if dtype == "bfloat16" else dtype
    storage = 2.0**-8 if np.dtype(dtype).name == "bfloat16" else 0.0
    eps = np.finfo(np.float64 if dtype == "float64" else np.float32).eps
    taps = np.prod(np.broadcast_to(sizes[0], 2))
    for shape in SHAPES:
        rng = np.random.default_rng(shape)
        x = laid_out(rng.standard_normal(shape).astype(dtype), layout)
        call = arguments(sizes) | {"count_include_pad": count, "layout": layout}
        y, saved = fd.avg_pool2d_forward(x, **call)
        want, want_saved = reference.avg_pool2d_forward(x, **call)
        mean = reference.avg_pool2d(np.abs(x.astype(np.float64)), **call)
        assert_within(y, want, (taps + 3) * eps * mean + storage * np.abs(want), "y")
        dy = rng.standard_normal(y.shape).astype(dtype)
        want = reference.avg_pool2d_backward(dy, want_saved)
        size = reference.avg_pool2d_backward(np.abs(dy.astype(np.float64)), want_saved)
        assert_within(fd.avg_pool2d_backward(dy, saved), want, (taps + 3) * eps * size + storage * np.abs(want), "dx")


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 50, 130])
@pytest.mark.parametrize("width", [5, 31, 32, 33, 200])
def test_layouts_and_instruction_sets_agree_to_the_bit(channels, width):
    """Many tiles, of which the last is smaller: too slow for the reference."""
    x = np.random.default_rng(0).standard_normal((3, channels, 5, width)).astype(np.float32)
    results = []
    for isa, layout in itertools.product([i for i in fd.config.available_isas() if i != "avx512_bf16"], LAYOUTS):
        before = fd.config.get_isa()
        fd.config.set_isa(isa)
        arrays = []
        for pool in ("max", "avg"):
            forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
            y, saved = forward(laid_out(x, layout), 3, 2, 1, ceil_mode=True, layout=layout)
            arrays += [y, backward(np.sqrt(np.abs(y)), saved)]
        fd.config.set_isa(before)
        results.append([a if layout == "NCHW" else a.transpose(0, 3, 1, 2) for a in arrays])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


# --- which element wins


NAN, INF = float("nan"), float("inf")


@layouts
@pytest.mark.parametrize(
    ("row", "winner"),
    [
        ([1, 3, 3, 2], 1),
        ([-0.0, 0.0, -0.0, 0.0], 0),
        ([1, NAN, 3, INF], 1),
        ([NAN, 5, NAN, 9], 2),
        ([-INF, -INF, -INF, -INF], 0),
        ([-INF, -INF, -3e38, -INF], 2),
        ([INF, INF, 1, 2], 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1, 4), (2, 2), (4, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_maximum_wins_and_the_last_nan(isa, dtype, shape, row, winner, layout):
    """In all of 40 lanes at once, and back to the winner alone."""
    x = laid_out(np.broadcast_to(np.array(row, dtype).reshape(shape), (1, 40, *shape)), layout)
    y, saved = fd.max_pool2d_forward(x, shape, layout=layout)
    assert np.all(saved.positions == winner)
    assert y.tobytes() == np.full(40, row[winner], dtype).tobytes()
    dx = fd.max_pool2d_backward(np.full_like(y, NAN), saved)
    flat = dx.reshape(40, 4) if layout == "NCHW" else dx.reshape(4, 40).T
    assert np.isnan(flat[:, winner]).all()
    assert np.count_nonzero(flat) == 40


@layouts
def test_padding_never_wins(isa, layout):
    x = laid_out(np.full((1, 3, 5, 5), -INF, np.float32), layout)
    y, saved = fd.max_pool2d_forward(x, 3, 2, 1, layout=layout)
    assert np.all(y == -INF)
    positions = saved.positions if layout == "NCHW" else saved.positions.transpose(0, 3, 1, 2)
    assert np.array_equal(positions[0, 0], [[4, 3, 3], [1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("kernel", "dtype"), [((16, 16), "uint8"), ((1, 257), "uint16"), ((256, 256), "uint16"), ((256, 257), "uint32")]
)
@layouts
def test_positions_take_the_smallest_type(isa, kernel, dtype, layout):
    """The winner is the window's last element, so its position is the largest there is."""
    shape = (1, 2, *kernel)
    x = laid_out(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), layout)
    y, saved = fd.max_pool2d_forward(x, kernel, layout=layout)
    assert saved.positions.dtype == dtype
    assert np.all(saved.positions == np.prod(kernel) - 1)
    dx = fd.max_pool2d_backward(np.full_like(y, 2), saved)
    assert dx.sum() == 4
    assert np.array_equal(dx != 0, x == (y if layout == "NCHW" else y.reshape(1, 1, 1, 2)))


def test_positions_that_users_change_are_a_copy():
    """The kernel reads its own positions."""
    y, saved = fd.max_pool2d_forward(np.ones((1, 1, 4, 4), np.float32), 2)
    want = fd.max_pool2d_backward(y, saved)
    saved.positions[...] = 255
    assert np.array_equal(fd.max_pool2d_backward(y, saved), want)


# --- strides, threads, empty arrays


def views(a):
    """Arrays equal to `a`, laid out otherwise."""
    padded = np.full([2 * n + 1 for n in a.shape], NAN, a.dtype)
    padded[1::2, 1::2, 1::2, 1::2] = a
    turned = np.ascontiguousarray(a[::-1, ::-1, ::-1, ::-1])
    return {
        "every second": padded[1::2, 1::2, 1::2, 1::2],
        "backwards": turned[::-1, ::-1, ::-1, ::-1],
        "Fortran": np.asfortranarray(a),
        "other layout": np.ascontiguousarray(a.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "odd offset": np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    }


@layouts
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_any_strides_give_the_same_bits(isa, stride, pool, layout):
    forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
    x = np.random.default_rng(0).standard_normal((2, 6, 7, 19)).astype(np.float32)
    y, saved = forward(x, 3, stride, 1, layout=layout)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    dx = backward(dy, saved)
    for name, view in views(x).items():
        assert forward(view, 3, stride, 1, layout=layout)[0].tobytes() == y.tobytes(), name
    for name, view in views(dy).items():
        assert backward(view, saved).tobytes() == dx.tobytes(), name
    repeated = np.broadcast_to(x[:1, :1], x.shape)
    same(forward(repeated, 2, layout=layout)[0], forward(repeated.copy(), 2, layout=layout)[0])


@layouts
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("shape", [(3, 33, 64, 64), (1, 1, 1200, 500), (1, 130, 50, 50)], ids=str)
def test_threads_do_not_change_a_bit(threads, pool, shape, layout):
    forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
    x = laid_out(np.random.default_rng(0).standard_normal(shape, np.float32), layout)
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        y, saved = forward(x, 3, 2, 1, layout=layout)
        results.append((y.tobytes(), backward(np.sqrt(np.abs(y)), saved).tobytes()))
    assert len(set(results)) == 1


@layouts
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6)], ids=["no images", "no channels"])
def test_empty_batches(isa, shape, pool, layout):
    forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
    x = laid_out(np.zeros(shape, np.float32), layout)
    y, saved = forward(x, 3, 2, layout=layout)
    assert y.shape == laid_out(np.zeros((*shape[:2], 2, 2)), layout).shape
    assert backward(y, saved).shape == x.shape


# --- gradients


@layouts
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_gradients_are_finite_differences(pool, layout):
    """For max pooling all elements differ by more than the step of the differences."""
    forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
    x = np.random.default_rng(0).permutation(2 * 3 * 5 * 4).astype(np.float64)
    x = laid_out(x.reshape(2, 3, 5, 4) / 100, layout)
    call = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "layout": layout}
    y, saved = forward(x, **call)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = backward(dy, saved)
    assert_gradient(lambda: float((forward(x, **call)[0] * dy).sum()), x, dx, operations=9 + y.size)


# --- layers


@layouts
@pytest.mark.parametrize(
    ("make", "name"), [(fd.MaxPool2d, "max"), (fd.AvgPool2d, "avg")], ids=["MaxPool2d", "AvgPool2d"]
)
def test_layers_are_their_functions(make, name, layout):
    x = laid_out(whole_numbers((2, 5, 8, 9), "float32"), layout)
    layer = make((3, 2), 2, 1, ceil_mode=True, layout=layout)
    y, saved = getattr(fd, f"{name}_pool2d_forward")(x, (3, 2), 2, 1, ceil_mode=True, layout=layout)
    dx = getattr(fd, f"{name}_pool2d_backward")(y, saved)
    for train in (True, False):
        same(layer(x, train), y)
        same(layer.backward(y), dx)
    assert layer.backward(y, input_grad=False) is None
    assert layer.parameters() == []
    assert repr(layer) == repr(make((3, 2), (2, 2), (1, 1), ceil_mode=True, layout=layout))


def test_average_layer_counts_the_image_alone_when_told():
    x = np.ones((1, 1, 4, 4), np.float32)
    assert np.all(fd.AvgPool2d(3, 2, 1, count_include_pad=False)(x) == 1)
    assert fd.AvgPool2d(3, 2, 1)(x)[0, 0, 0, 0] == np.float32(4) / 9


@layouts
def test_a_network_with_pooling_learns(layout):
    """Images whose left or right half is bright: backward runs through both layers to a Linear's inputs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 2, 8, 8)).astype(np.float32)
    x[labels == 1, :, :, :4] += 1
    net = fd.Sequential(
        fd.MaxPool2d(2, layout=layout), fd.AvgPool2d(2, layout=layout), fd.Flatten(), fd.Linear(8, 2), seed=1
    )
    optimizer = fd.training.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(60):
        loss, gradient = fd.softmax_cross_entropy(net(laid_out(x, layout)), labels)
        assert net.backward(gradient).shape == laid_out(x, layout).shape
        optimizer.step()
        losses.append(loss)
    assert losses[-1] < 0.3 * losses[0]


# --- refusals

IMAGE = np.ones((2, 3, 6, 5), np.float32)
WRONG_OPTIONS = [
    ("kernel_size", 0, ValueError, "an integer in [1, ", "0"),
    ("kernel_size", (2, 2, 2), ValueError, "or a pair of them", "(2, 2, 2)"),
    ("kernel_size", 2.0, TypeError, "an integer in [1, ", "2.0"),
    ("kernel_size", True, TypeError, "an integer in [1, ", "True"),
    ("kernel_size", (2, "2"), TypeError, "or a pair of them", "(2, '2')"),
    ("kernel_size", None, TypeError, "an integer in [1, ", "None"),
    ("kernel_size", 2**31, ValueError, "an integer in [1, ", "2147483648"),
    ("kernel_size", 2**16, ValueError, "fewer than 2^32 elements", "65536"),
    ("stride", 0, ValueError, "an integer in [1, ", "0"),
    ("stride", (1, -1), ValueError, "an integer in [1, ", "(1, -1)"),
    ("padding", -1, ValueError, "an integer in [0, ", "-1"),
    ("padding", 2, ValueError, "at most half of kernel_size", "2"),
    ("padding", (0, 2), ValueError, "at most half of kernel_size", "(0, 2)"),
    ("ceil_mode", 1, TypeError, "True or False", "1"),
    ("layout", "NWHC", ValueError, "'NCHW' or 'NHWC'", "'NWHC'"),
]


@pytest.mark.parametrize(("name", "value", "error", "wanted", "got"), WRONG_OPTIONS)
@pytest.mark.parametrize("call", [fd.MaxPool2d, fd.AvgPool2d, fd.max_pool2d_forward, fd.avg_pool2d_forward])
def test_wrong_options_are_refused(call, name, value, error, wanted, got):
    given = {"kernel_size": 3} | ({} if isinstance(call, type) else {"x": IMAGE}) | {name: value}
    assert_refused(call, given, error, name, wanted, got)


def test_count_include_pad_must_be_a_flag():
    for call in (lambda **o: fd.AvgPool2d(2, **o), lambda **o: fd.avg_pool2d_forward(IMAGE, 2, **o)):
        assert_refused(call, {"count_include_pad": 1}, TypeError, "count_include_pad", "True or False", "1")


@pytest.mark.parametrize(
    ("x", "error", "wanted", "got"),
    [
        (IMAGE[0], ValueError, "[B, C, H, W], an array of rank 4", "rank 3, shape [3, 6, 5]"),
        (IMAGE.astype(int), TypeError, "float32, float64 or bfloat16", "int64"),
        (IMAGE.tolist(), TypeError, "a NumPy array", "list"),
        (IMAGE[:, :, :2], ValueError, "of kernel_size", "[2, 3, 2, 5], kernel_size 3"),
        (IMAGE[:, :, :, :0], ValueError, "H and W of at least 1", "[2, 3, 6, 0]"),
    ],
    ids=["rank", "integers", "list", "too small", "no columns"],
)
@pytest.mark.parametrize("call", [fd.max_pool2d_forward, fd.avg_pool2d_forward, fd.MaxPool2d(3).forward])
def test_wrong_images_are_refused(call, x, error, wanted, got):
    given = {"x": x} | ({} if hasattr(call, "__self__") else {"kernel_size": 3})
    assert_refused(call, given, error, "x", wanted, got)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_wrong_gradients_are_refused(pool):
    forward, backward = getattr(fd, f"{pool}_pool2d_forward"), getattr(fd, f"{pool}_pool2d_backward")
    y, saved = forward(IMAGE, 2)
    other = {"max": fd.avg_pool2d_forward, "avg": fd.max_pool2d_forward}[pool](IMAGE, 2)[1]
    for dy, error, wanted, got in [
        (y[:1], ValueError, "[2, 3, 3, 2] to match the output", "[1, 3, 3, 2]"),
        (y.astype("float64"), TypeError, "float32 to match the output", "float64"),
        (y[0], ValueError, "an array of rank 4", "[3, 3, 2]"),
        (None, TypeError, "a NumPy array", "NoneType"),
    ]:
        assert_refused(backward, {"dy": dy, "saved": saved}, error, "dy", wanted, got)
    for wrong in (None, other):
        wanted = f"what {pool}_pool2d_forward returned"
        assert_refused(backward, {"dy": y, "saved": wrong}, TypeError, "saved", wanted, type(wrong).__name__)


def test_a_refused_forward_keeps_what_backward_needs():
    layer = fd.MaxPool2d(2)
    with pytest.raises(RuntimeError, match="needs a forward call first"):
        layer.backward(IMAGE)
    y = layer(IMAGE)
    with pytest.raises(ValueError, match="x must be"):
        layer(IMAGE[0])
    assert layer.backward(y).shape == IMAGE.shape
