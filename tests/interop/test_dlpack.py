"""Arrays of other libraries go in and come out through DLPack: same memory, same bits, the caller's own type."""

import sys
import types

import fusedrop as fd
import numpy as np
import pytest

RNG = fd.Philox(seed=1, stream=2, step=3)


class Foreign:
    """An array of another library, with nothing but DLPack, version 0 or version 1."""

    def __init__(self, array, versioned=True, device=(1, 0)):
        self.array, self.versioned, self.device_pair = array, versioned, device
        self.shape, self.dtype = array.shape, array.dtype

    def __dlpack__(self, **options):
        if not self.versioned and options:
            raise TypeError("unexpected keyword argument")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device_pair

    def __array_namespace__(self):
        return types.SimpleNamespace(from_dlpack=lambda producer: Foreign(np.from_dlpack(producer)))


def normal(*shape, dtype="float32"):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def operands(dtype="float32"):
    return (
        normal(33, 21, dtype=dtype),
        normal(40, 21, dtype=dtype),
        normal(40, dtype=dtype),
        normal(33, 40, dtype=dtype),
    )


def call_all(x, w, b, dy):
    """Every function that takes arrays."""
    y, saved = fd.linear_forward(x, w, b, activation="gelu", p=0.3, input_p=0.1, rng=RNG, residual=dy)
    results = [y, *fd.linear_backward(dy, saved), fd.dropout(x, p=0.3, rng=RNG)]
    dropped, saved = fd.dropout_forward(dy, p=0.3, rng=RNG, granularity="unit")
    results += [dropped, fd.dropout_backward(y, saved), fd.activate(x, "silu")]
    activated, saved = fd.activate_forward(y, "tanh")
    return [*results, activated, fd.activate_backward(dy, saved)]


@pytest.mark.parametrize("versioned", [False, True], ids=["version 0", "version 1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_the_same_and_of_the_callers_library(dtype, versioned):
    want = call_all(*operands(dtype))
    got = call_all(*(Foreign(a, versioned) for a in operands(dtype)))
    assert all(type(g) is Foreign for g in got)
    assert all(np.array_equal(g.array, w) for g, w in zip(got, want, strict=True))


def test_strides_offsets_and_empty_arrays():
    x, w, _, _ = operands()
    wide = np.zeros((66, 50), np.float32)
    wide[::-2, 3:45:2] = x
    assert np.array_equal(fd.linear(Foreign(wide[::-2, 3:45:2]), Foreign(w)).array, fd.linear(x, w))
    assert fd.linear(Foreign(x[:0]), Foreign(w)).array.shape == (0, 40)


def test_libraries_mix():
    """The library of x decides the library of the results; the other arguments do not matter."""
    x, w, b, dy = operands()
    y, saved = fd.linear_forward(Foreign(x), w, b)
    assert np.array_equal(y.array, fd.linear(x, w, b))
    assert type(fd.linear(x, Foreign(w), b)) is np.ndarray
    assert type(fd.linear_backward(dy, saved)[1]) is Foreign


def test_destinations_receive_results_and_are_returned():
    x, w, b, dy = operands()
    out, dw = Foreign(np.empty_like(dy)), Foreign(np.empty_like(w))
    y, saved = fd.linear_forward(Foreign(x), w, b, activation="relu", out=out)
    dx, got, db = fd.linear_backward(dy, saved, dx=False, dw=dw)
    assert y is out
    assert got is dw
    assert dx is None
    want, want_saved = fd.linear_forward(x, w, b, activation="relu")
    assert np.array_equal(out.array, want)
    assert np.array_equal(dw.array, fd.linear_backward(dy, want_saved)[1])
    assert type(db) is Foreign


def test_a_destination_over_an_input_is_refused():
    x, w, _, _ = operands()
    memory = np.zeros(33 * 40 + 33 * 21, np.float32)
    with pytest.raises(ValueError, match="out must not overlap x"):
        fd.linear(Foreign(memory[: 33 * 21].reshape(33, 21)), w, out=Foreign(memory[: 33 * 40].reshape(33, 40)))
    with pytest.raises(ValueError, match="out must not overlap w"):
        fd.linear(x, Foreign(memory[: 40 * 21].reshape(40, 21)), out=memory[: 33 * 40].reshape(33, 40))


def test_read_only_memory_is_read_but_never_written():
    x, w, _, dy = operands()
    x.flags.writeable = dy.flags.writeable = False
    assert np.array_equal(fd.linear(Foreign(x), w).array, fd.linear(x, w))
    with pytest.raises(ValueError, match="out must be writeable; got a read-only array"):
        fd.linear(x, w, out=Foreign(dy))


class Broken(Foreign):
    """Its capsule is no capsule, or was used before."""

    def __init__(self, capsule):
        super().__init__(np.ones((3, 4), np.float32))
        self.capsule = capsule

    def __dlpack__(self, **options):
        return self.capsule


def test_bad_capsules_are_refused():
    used = operands()[0].__dlpack__()
    np.from_dlpack(Broken(used))
    for capsule in (5, None, used):
        with pytest.raises(ValueError, match="x must be an array that DLPack can share; got Broken, whose __dlpack__"):
            fd.linear(Broken(capsule), np.ones((5, 4), np.float32))


class Interrupting(Foreign):
    def __dlpack__(self, **options):
        raise KeyboardInterrupt


def test_ctrl_c_passes_through():
    with pytest.raises(KeyboardInterrupt):
        fd.linear(Interrupting(operands()[0]), operands()[1])


class Plain:
    """A producer whose package has no from_dlpack: its results are NumPy's."""

    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def test_results_of_an_unknown_library_are_numpys():
    x, w, _, _ = operands()
    assert type(fd.linear(Plain(x), w)) is np.ndarray


def test_wrong_devices_and_dtypes_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", None)  # as where it was not built
    x, w, _, _ = operands()
    with pytest.raises(ValueError, match=r"x must be on the CPU, this fusedrop has no CUDA module .*; got cuda:0"):
        fd.linear(Foreign(x, device=(2, 0)), w)
    with pytest.raises(ValueError, match=r"w must be on the CPU, this call runs there only; got cuda:1"):
        fd.linear(x, Foreign(w, device=(2, 1)))
    with pytest.raises(ValueError, match=r"x must be on the CPU, .*; got DLPack device type 7"):
        fd.linear(Foreign(x, device=(7, 0)), w)
    with pytest.raises(TypeError, match="w must be an array of float32, float64 or bfloat16; got int32"):
        fd.linear(x, Foreign(w.astype(np.int32)))
    with pytest.raises(TypeError, match="w must be float32 to match x; got float64"):
        fd.linear(Foreign(x), Foreign(w.astype(np.float64)))


def test_memory_lives_as_long_as_it_is_used():
    """Inputs live until the last backward call, results as long as their new owner."""
    x, w, b, dy = operands()
    y, saved = fd.linear_forward(Foreign(x.copy()), w, b, activation="relu")
    want = fd.linear_backward(dy, fd.linear_forward(x, w, b, activation="relu")[1])
    bystanders = [np.full_like(x, np.nan) for _ in range(20)]
    for g, expected in zip(fd.linear_backward(dy, saved), want, strict=True):
        assert np.array_equal(g.array, expected)
    del saved
    assert np.array_equal(y.array, fd.linear(x, w, b, activation="relu"))
    assert len(bystanders) == 20


def test_what_was_borrowed_is_given_back():
    x, w, b, dy = operands()
    held = [sys.getrefcount(a) for a in (x, w, b, dy)]
    call_all(*(Foreign(a) for a in (x, w, b, dy)))
    with pytest.raises(ValueError, match="w must be"):
        fd.linear(Foreign(x), Foreign(dy))
    assert [sys.getrefcount(a) for a in (x, w, b, dy)] == held


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_torch(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if dtype == "bfloat16":
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        arrays = [a.astype(bfloat16) for a in operands()]
        tensors = [torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) for a in arrays]
    else:
        arrays = operands(dtype)
        tensors = [torch.from_numpy(a) for a in arrays]
    for got, want in zip(call_all(*tensors), call_all(*arrays), strict=True):
        assert got.dtype == getattr(torch, dtype)
        assert got.tolist() == want.tolist()


def test_torch_tensors_that_require_a_gradient_are_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.ones(3, 4, requires_grad=True)
    with pytest.raises(ValueError, match=r"x must be an array that DLPack can share; got Tensor: .*detach"):
        fd.linear(x, torch.ones(5, 4))
    assert fd.linear(x.detach(), torch.ones(5, 4)).tolist() == [[4.0] * 5] * 3


def test_torch_integers_are_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match=r"x must be an array of float32, float64 or bfloat16; got torch\.int64"):
        fd.dropout(torch.ones(3, dtype=torch.int64), p=0.0)


def test_jax():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    arrays = operands()
    for got, want in zip(call_all(*map(jax.numpy.asarray, arrays)), call_all(*arrays), strict=True):
        assert isinstance(got, jax.Array)
        assert np.array_equal(np.asarray(got), want)


def test_jax_arrays_are_no_destinations():
    """JAX arrays are immutable: other code may use the same memory as a constant."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    out = jax.numpy.zeros((33, 40))
    with pytest.raises(ValueError, match="out must be writeable; got a read-only array"):
        fd.linear(*operands()[:2], out=out)
    assert not out.any()


def test_lazily_negated_tensors_are_refused():
    """PyTorch would share the memory, which holds the values with the opposite sign."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ones = torch.ones(2, 3)
    negated = torch.complex(ones, ones).conj().imag
    with pytest.raises(ValueError, match=r"x must hold its values in memory; got a lazily negated view"):
        fd.linear(negated, torch.ones(1, 3))
    assert fd.linear(negated.resolve_neg(), torch.ones(1, 3)).tolist() == [[-3.0], [-3.0]]


def test_exchange_functions_and_the_protocol_give_the_same():
    """Tensors are imported by their class's C functions; a subclass without these by __dlpack__."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Plain(torch.Tensor):
        __dlpack_c_exchange_api__ = None

    for layout in (np.ascontiguousarray, np.asfortranarray):
        tensors = [torch.from_numpy(layout(a)) for a in operands()]
        fast = call_all(*tensors)
        slow = call_all(*(t.as_subclass(Plain) for t in tensors))
        assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))
        assert all(type(a) is torch.Tensor for a in fast)
