"""The same bits for any memory layout: every argument of every function, one at a time and all together."""

import fusedrop as fd
import numpy as np
import pytest

RNG = fd.Philox(seed=1, stream=2, step=3)
DTYPES = ["float32", "float64"]
M, K, N = 15, 70, 37  # beyond a tile in every direction, and odd


def normal(*shape, dtype):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def filled(view, array):
    view[...] = array
    return view


def surrounded(shape, dtype):
    return np.full(shape, np.nan, dtype)  # what lies between the elements must not be read


def fortran(a):
    return np.asfortranarray(a)


def sliced(a):
    return filled(surrounded([3 * n + 1 for n in a.shape], a.dtype)[tuple(slice(1, None, 3) for _ in a.shape)], a)


def cropped(a):
    wide = surrounded([n + 5 for n in a.shape], a.dtype)
    return filled(wide[tuple(slice(2, 2 + n) for n in a.shape)], a)


def reversed_(a):
    return filled(np.empty_like(a)[tuple(slice(None, None, -1) for _ in a.shape)], a)


def reversed_and_transposed(a):
    return reversed_(a.T.copy()).T


def packed_field(a):
    """A field of packed records: strides that are no multiple of the element, and addresses that are not aligned."""
    return filled(np.zeros(a.shape, [("flag", "u1"), ("value", a.dtype)])["value"], a)


def padded_field(a):
    """A field between others of an aligned record: strides of several elements."""
    return filled(np.zeros(a.shape, [("a", a.dtype), ("value", a.dtype), ("b", a.dtype)])["value"], a)


def odd_address(a):
    return filled(np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape), a)


def real_part(a):
    return filled(np.full(a.shape, 7j, np.result_type(a, np.complex64)).real, a)


LAYOUTS = [
    fortran,
    sliced,
    cropped,
    reversed_,
    reversed_and_transposed,
    packed_field,
    padded_field,
    odd_address,
    real_part,
]
layouts = pytest.mark.parametrize("layout", LAYOUTS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def layer(x, w, b, residual, dy):
    options = {"activation": "silu", "p": 0.3, "input_p": 0.2, "rng": RNG}
    y, saved = fd.linear_forward(x, w, b, residual=residual, **options)
    return [y, *fd.linear_backward(dy, saved)]


def bits(arrays):
    return [a.tobytes() for a in arrays]


@dtypes
@layouts
def test_layer(isa, layout, dtype):
    operands = [normal(*s, dtype=dtype) for s in [(M, K), (N, K), (N,), (M, N), (M, N)]]
    want = bits(layer(*operands))
    views = [layout(a) for a in operands]
    for view, a in zip(views, operands, strict=True):
        assert np.array_equal(view, a)
    assert bits(layer(*views)) == want
    for i, view in enumerate(views):
        assert bits(layer(*operands[:i], view, *operands[i + 1 :])) == want


@dtypes
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
def test_layer_of_broadcast_operands(isa, axes, dtype):
    """Strides of 0, as from np.broadcast_to: one row, one column or one number for all."""

    def stretched(*shape):
        ones = [1 if axis in axes else n for axis, n in enumerate(shape)]
        return np.broadcast_to(normal(*ones, dtype=dtype), shape)

    b = np.broadcast_to(normal(1, dtype=dtype), N)
    views = [stretched(M, K), stretched(N, K), b, stretched(M, N), stretched(M, N)]
    assert bits(layer(*views)) == bits(layer(*[a.copy() for a in views]))


@dtypes
@layouts
def test_elementwise_entries(isa, layout, dtype):
    for shape in [(M, N), (N,), (3, 5, 7), (2, 3, 4, 5)]:
        x, dy = normal(*shape, dtype=dtype), normal(*shape[::-1], dtype=dtype).reshape(shape)
        for scaling in ("inverted", "classic"):
            options = {"p": 0.4, "rng": RNG, "scaling": scaling}
            assert fd.dropout(layout(x), **options).tobytes() == fd.dropout(x, **options).tobytes()
        for activation in fd.activations:
            assert fd.activate(layout(x), activation).tobytes() == fd.activate(x, activation).tobytes()
            saved, other = (fd.activate_forward(a, activation)[1] for a in (x, layout(x)))
            want = fd.activate_backward(dy, saved).tobytes()
            assert fd.activate_backward(layout(dy), saved).tobytes() == want
            assert fd.activate_backward(dy, other).tobytes() == want


@dtypes
def test_elementwise_entries_of_permuted_and_broadcast_axes(isa, dtype):
    x = normal(3, 4, 5, 6, dtype=dtype)
    views = [x.transpose(order) for order in [(3, 2, 1, 0), (0, 2, 1, 3), (1, 0, 3, 2), (2, 3, 0, 1)]]
    views += [np.broadcast_to(x[:, :1], x.shape), np.broadcast_to(x[..., :1], x.shape), x[:, ::-1], x[:, :, None, 0]]
    for view in views:
        copy = view.copy(order="C")
        assert fd.dropout(view, p=0.4, rng=RNG).tobytes() == fd.dropout(copy, p=0.4, rng=RNG).tobytes()
        assert fd.activate(view, "gelu").tobytes() == fd.activate(copy, "gelu").tobytes()
        saved, other = (fd.activate_forward(a, "gelu")[1] for a in (copy, view))
        want = fd.activate_backward(copy, saved).tobytes()
        assert fd.activate_backward(view, saved).tobytes() == want
        assert fd.activate_backward(copy, other).tobytes() == want
