"""A NumPy array is resized or reshaped in place between forward and backward: the right gradients, or an error."""

import numbers
import warnings

import fusedrop as fd
import numpy as np
import pytest
from saved_arrays import CASES, IDS, linear, pool

RNG = fd.Philox(seed=1, stream=2, step=3)


def arrays():
    """Makes arrays, always the same ones in the same order."""
    generator = np.random.default_rng(1)
    return lambda *shape: generator.standard_normal(shape, "float32")


def grow(a):
    a.resize((1000 * a.size,), refcheck=False)


def grow_rows(a):
    a.resize((4000, *a.shape[1:]), refcheck=False)


def shrink(a):
    a.resize((1,), refcheck=False)


def flatten(a):
    a.shape = (a.size,)


def swap_axes(a):
    a.shape = a.shape[::-1]


def add_axis(a):
    a.shape = (1, *a.shape)


def broadcast(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy 2.4 and later
        a.strides = (0,) * a.ndim


def reinterpret(a):
    a.dtype = np.int32


CHANGES = [grow, grow_rows, shrink, flatten, swap_axes, add_axis, broadcast, reinterpret]


@pytest.mark.parametrize(("operator", "name"), CASES, ids=IDS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_array_is_refused(operator, name, change):
    call = operator(arrays())
    refusal = call.refusal(name)
    change(call.arrays[name])
    with pytest.raises(ValueError, match=refusal):
        call.backward()


@pytest.mark.parametrize(("operator", "name"), CASES, ids=IDS)
def test_a_change_that_was_undone_is_none(operator, name):
    want = operator(arrays()).backward()
    call = operator(arrays())
    array = call.arrays[name]
    shape = array.shape
    array.shape = (array.size,)
    array.shape = shape
    array.flags.writeable = False
    assert all(np.array_equal(g, w) for g, w in zip(call.backward(), want, strict=True) if g is not w)


@pytest.mark.parametrize("size", [(1,), (4000, 40)], ids=["smaller", "larger"])
@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[2:, ::2], lambda a: a[:].view()])
def test_a_view_of_a_resized_array_is_refused(view, size):
    """NumPy leaves the view's pointer as it is."""
    base = arrays()(48, 40)
    x = arrays()(33, view(base).shape[1])
    _, saved = fd.linear_forward(x, view(base))
    base.resize(size, refcheck=False)
    with pytest.raises(ValueError, match=r"w must stay \[\d+, \d+\] in the same memory from forward to backward"):
        fd.linear_backward(np.ones((33, view(np.empty((48, 40))).shape[0]), np.float32), saved)


def test_a_result_that_the_caller_reshapes_is_refused():
    x, w, dy = arrays()(33, 21), arrays()(40, 21), arrays()(33, 40)
    y, saved = fd.linear_forward(x, w, activation="tanh")
    y.resize((2, 2), refcheck=False)
    with pytest.raises(ValueError, match=r"y must stay \[33, 40\] in the same memory from forward to backward"):
        fd.linear_backward(dy, saved)


def test_an_array_that_forward_had_to_copy_does_not_matter():
    """A field of packed records has strides that are no whole number of elements."""
    x, w, dy = arrays()(33, 21), arrays()(40, 21), arrays()(33, 40)
    records = np.zeros(x.shape, [("flag", "u1"), ("value", "f4")])
    records["value"] = x
    want = fd.linear_backward(dy, fd.linear_forward(x, w)[1])[:2]
    _, saved = fd.linear_forward(records["value"], w)
    records.resize((1,), refcheck=False)
    assert all(np.array_equal(g, e) for g, e in zip(fd.linear_backward(dy, saved)[:2], want, strict=True))


@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_lstm_had_to_copy_does_not_matter(change):
    """The LSTM reads x and c0 in C order."""
    x, w_ih, w_hh, c0, dy = (arrays()(*s) for s in ((6, 8, 20), (64, 20), (64, 16), (16, 8), (8, 6, 16)))
    _, _, saved = fd.lstm_forward(x.transpose(1, 0, 2), w_ih, w_hh, c0=c0.T)
    want = fd.lstm_backward(dy, saved)
    for array in (x, c0):
        change(array)
    assert all(np.array_equal(g, e) for g, e in zip(fd.lstm_backward(dy, saved), want, strict=True) if g is not e)


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_context_shows_is_the_array_as_it_is(change):
    call = linear(arrays())
    for name, array in call.arrays.items():
        change(array)
        assert getattr(call.saved, {"y": "saved_activation"}.get(name, name)) is array


@pytest.mark.parametrize("change", CHANGES)
def test_pooling_keeps_no_array(change):
    want = pool(arrays()).backward()
    call = pool(arrays())
    change(call.arrays["x"])
    assert np.array_equal(call.backward()[0], want[0])


@numbers.Real.register
class ResizingRate:
    """A rate whose conversion resizes an array of the same call."""

    def __init__(self, array):
        self.array = array

    def __float__(self):
        self.array.resize((1,), refcheck=False)
        return 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w, p: fd.linear(x, w, p=p, rng=RNG),
        lambda x, w, p: fd.linear(x, w, input_p=p, rng=RNG),
        lambda x, w, p: fd.conv2d(x, w, p=p, rng=RNG),
        lambda x, w, p: fd.lstm(x, w, w, recurrent_p=p, rng=RNG),
    ],
)
def test_a_rate_that_resizes_x_is_read_before_x(call):
    x, w = arrays()(300, 21), arrays()(40, 21)
    with pytest.raises(ValueError, match=r"x must be \[.*\], an array of rank \d; got rank 1, shape \[1\]"):
        call(x, w, ResizingRate(x))


def test_a_rate_that_resizes_the_x_of_dropout():
    x = arrays()(300, 21)
    assert fd.dropout(x, p=ResizingRate(x), rng=RNG).shape == (1,)
