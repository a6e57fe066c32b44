"""Arrays for results (out, dx, dw, db) and the arrays that must not change: every input of every entry."""

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, contents

M, K, N = 6, 6, 6  # square, so that any operand could serve as the destination of any result
RNG = fd.Philox(seed=1, stream=2, step=3)
OPTIONS = {"p": 0.5, "rng": RNG, "input_p": 0.25}
DTYPES = ["float32", "float64"]
ONE_OF_EACH_KIND = ["identity", "relu", "gelu"]  # keeps nothing, y, z


def normal(*shape, dtype="float32"):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def operands(dtype="float32"):
    return {
        "x": normal(M, K, dtype=dtype),
        "w": normal(N, K, dtype=dtype),
        "b": normal(N, dtype=dtype),
        "residual": normal(M, N, dtype=dtype),
    }


def misplaced(shape, dtype):
    """Destinations of the right shape and dtype that kernels cannot write, and the text of each error."""
    read_only = np.zeros(shape, dtype)
    read_only.flags.writeable = False
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
    bytes_ = np.zeros(np.prod(shape) * np.dtype(dtype).itemsize + 1, np.uint8)
    yield wide[..., ::2], "C-contiguous", "strides"
    yield wide[..., : shape[-1]][..., ::-1], "C-contiguous", "strides"
    yield np.broadcast_to(np.zeros(1, dtype), shape), "", ""
    yield bytes_[1:].view(dtype).reshape(shape), "aligned", ""
    yield read_only, "writeable", "read-only"
    if len(shape) == 2:
        yield np.zeros(shape, dtype, order="F"), "C-contiguous", "strides"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entry", [fd.linear, fd.linear_forward])
def test_out_must_be_writable_in_place(entry, dtype):
    for out, wanted, got in misplaced((M, N), dtype):
        assert_refused(entry, operands(dtype) | {"out": out}, ValueError, "out", wanted, got)
    for out, got in [
        (np.zeros((N, M + 1), dtype), "[6, 7]"),
        (np.zeros(M * N, dtype), "[36]"),
        (np.zeros((1, M, N), dtype), "[1, 6, 6]"),
    ]:
        assert_refused(entry, operands(dtype) | {"out": out}, ValueError, "out", "[M, N] = [6, 6]", got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_must_be_writable_in_place(dtype):
    _, saved = fd.linear_forward(**operands(dtype))
    dy = normal(M, N, dtype=dtype)
    for name, shape, dims in [("dx", (M, K), "[M, K]"), ("dw", (N, K), "[N, K]"), ("db", (N,), "[N]")]:
        for out, wanted, got in misplaced(shape, dtype):
            arguments = {"dy": dy, "saved": saved, name: out}
            assert_refused(fd.linear_backward, arguments, ValueError, name, wanted, got)
        for out in (np.zeros((*shape[:-1], 5), dtype), np.zeros((1, *shape), dtype)):
            arguments = {"dy": dy, "saved": saved, name: out}
            assert_refused(fd.linear_backward, arguments, ValueError, name, dims, str(list(out.shape)))


def refuse_overlap(call, arguments, name, other):
    before = contents(arguments.values())
    with pytest.raises(ValueError, match=rf"^{name} must not overlap {other}\b"):
        call(**arguments)
    assert contents(arguments.values()) == before


OVERLAPS = ["whole", "shifted", "reversed", "interleaved", "unaligned"]


def overlapping(array, kind):
    """(view of the array's values, flat destination of its size that shares memory with it)."""
    size, item = array.size, array.itemsize
    flat = np.zeros(2 * size + 2, array.dtype)
    if kind == "whole":
        view, out = flat[:size].reshape(array.shape), flat[:size]
    elif kind == "shifted":  # one element in common
        view, out = flat[size - 1 : 2 * size - 1].reshape(array.shape), flat[:size]
    elif kind == "reversed":
        view, out = flat[size - 1 : 2 * size - 1][::-1].reshape(array.shape), flat[:size]
    elif kind == "interleaved":
        view, out = flat[: 2 * size : 2].reshape(array.shape), flat[1 : size + 1]
    else:
        raw = flat.view(np.uint8)
        view, out = raw[1 : 1 + size * item].view(array.dtype).reshape(array.shape), flat[:size]
    view[...] = array
    return view, out


@pytest.mark.parametrize("kind", OVERLAPS)
@pytest.mark.parametrize("name", ["x", "w", "b", "residual"])
@pytest.mark.parametrize("entry", [fd.linear, fd.linear_forward])
def test_out_must_not_overlap_an_input(entry, name, kind):
    value, out = overlapping(np.zeros((M, N), np.float32), kind)
    if name == "b":
        value = next(row for row in value if np.shares_memory(row, out))
    arguments = operands() | {name: value}
    refuse_overlap(entry, arguments | {"out": out.reshape(M, N)}, "out", name)


@pytest.mark.parametrize("kind", OVERLAPS)
@pytest.mark.parametrize("name", ["dx", "dw"])
@pytest.mark.parametrize("other", ["dy", "x", "w"])
def test_a_gradient_must_not_overlap_an_input(name, other, kind):
    if kind == "unaligned" and other != "dy":
        kind = "whole"  # of an unaligned x or w, `saved` holds a copy: there is nothing to overlap
    arguments = operands() | {"dy": normal(M, N)}
    arguments[other], out = overlapping(arguments[other], kind)
    dy = arguments.pop("dy")
    _, saved = fd.linear_forward(**arguments)
    refuse_overlap(fd.linear_backward, {"dy": dy, "saved": saved, name: out.reshape(M, K)}, name, other)


@pytest.mark.parametrize(("activation", "kept"), [("relu", "y"), ("gelu", "z")])
def test_a_gradient_must_not_overlap_what_forward_kept(activation, kept):
    _, saved = fd.linear_forward(normal(M, K), normal(N, K), normal(N), activation=activation)
    assert saved.kind == kept
    dy, row = normal(M, N), saved.saved_activation[2]
    for name, out in [("dx", saved.saved_activation), ("dw", saved.saved_activation), ("db", row)]:
        refuse_overlap(fd.linear_backward, {"dy": dy, "saved": saved, name: out}, name, kept)
    for other, array in [("dy", dy), ("x", saved.x), ("w", saved.w)]:
        refuse_overlap(fd.linear_backward, {"dy": dy, "saved": saved, "db": array[1]}, "db", other)


def test_gradients_must_not_overlap_each_other():
    _, saved = fd.linear_forward(normal(M, K), normal(N, K), normal(N))
    flat = np.zeros(100, np.float32)
    low, high, row = flat[:36].reshape(6, 6), flat[35:71].reshape(6, 6), flat[33:39]
    dy = normal(M, N)
    for later, earlier, destinations in [
        ("dw", "dx", {"dx": low, "dw": low}),
        ("dw", "dx", {"dx": low, "dw": high}),
        ("dw", "dx", {"dx": high, "dw": low}),
        ("db", "dx", {"dx": low, "db": row}),
        ("db", "dw", {"dw": low, "db": row}),
    ]:
        refuse_overlap(fd.linear_backward, {"dy": dy, "saved": saved} | destinations, later, earlier)


def test_neighbours_in_one_buffer_are_no_overlap():
    """Adjacent arrays do not overlap: all parameters and gradients of a network may lie in one flat array."""
    flat = np.zeros(4 * 36 + 6, np.float32)
    x, w, out, dx = (flat[36 * i : 36 * (i + 1)].reshape(6, 6) for i in range(4))
    x[...], w[...] = normal(M, K), normal(N, K)
    want, want_saved = fd.linear_forward(x.copy(), w.copy(), normal(N))
    y, saved = fd.linear_forward(x, w, normal(N), out=out)
    assert np.array_equal(y, want)
    dy = normal(M, N)
    for got, expected in zip(
        fd.linear_backward(dy, saved, dx=dx, db=flat[-6:]), fd.linear_backward(dy, want_saved), strict=True
    ):
        assert np.array_equal(got, expected)


def copies(arrays, writeable):
    """NumPy raises on a write to a read-only array, C++ does not: the test uses both kinds and compares bytes."""
    copied = {name: array.copy() for name, array in arrays.items()}
    for array in copied.values():
        array.flags.writeable = writeable
    return copied


writeable_or_not = pytest.mark.parametrize("writeable", [True, False], ids=["writeable", "read-only"])


@pytest.mark.parametrize("dtype", DTYPES)
@writeable_or_not
@pytest.mark.parametrize("activation", ONE_OF_EACH_KIND)
@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
def test_the_layer_never_writes_its_inputs(isa, activation, dropout_first, writeable, dtype):
    arrays = copies(operands(dtype) | {"dy": normal(M, N, dtype=dtype)}, writeable)
    frozen = contents(arrays.values())
    dy = arrays.pop("dy")
    y, saved = fd.linear_forward(**arrays, activation=activation, dropout_first=dropout_first, **OPTIONS)
    kept = y.tobytes()
    fd.linear_backward(dy, saved)
    assert y.tobytes() == kept
    assert contents([*arrays.values(), dy]) == frozen
    assert fd.linear(**arrays, activation=activation, dropout_first=dropout_first, **OPTIONS).tobytes() == kept


@pytest.mark.parametrize("dtype", DTYPES)
@writeable_or_not
def test_the_other_entries_never_write_their_inputs(isa, writeable, dtype):
    x, dy = copies({"x": normal(M, N, dtype=dtype), "dy": normal(M, N, dtype=dtype)}, writeable).values()
    labels = copies({"classes": np.arange(M) % N, "rows": np.eye(M, N)}, writeable)
    frozen = contents([x, dy, *labels.values()])
    for scaling in ("inverted", "classic"):
        fd.dropout(x, p=0.5, rng=RNG, scaling=scaling)
        fd.dropout_backward(dy, fd.dropout_forward(x, p=0.5, rng=RNG, scaling=scaling)[1])
    for activation in fd.activations:
        fd.activate(x, activation)
        fd.activate_backward(dy, fd.activate_forward(x, activation)[1])
    for target in labels.values():
        fd.softmax_cross_entropy(x, target)
    layers = [fd.Dropout(0.5), fd.Dropout(0.5, scaling="classic"), fd.ReLU(), fd.GELU(), fd.SiLU(), fd.Tanh()]
    layers += [fd.Sigmoid(), fd.Flatten(), fd.Linear(N, N, p=0.5, dtype=dtype)]
    for layer in layers:
        for train in (True, False):
            layer.forward(x, train)
            layer.backward(dy)
    assert contents([x, dy, *labels.values()]) == frozen
