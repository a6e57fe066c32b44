"""Calls of the CUDA module: error messages, and arrays of libraries other than PyTorch."""

import gc
import types
import weakref

import fusedrop as fd
import numpy as np
import pytest
from cuda_devices import draw, torch
from fusedrop.cuda import libraries

RNG = fd.Philox(seed=7, stream=3, step=11)


@pytest.fixture
def call(device):
    """linear_forward with valid arguments; a test replaces some of them."""
    shapes = {"x": (9, 7), "w": (5, 7), "b": (5,), "residual": (9, 5)}
    operands = {name: device.tensor(draw(shape, 1), "float32") for name, shape in shapes.items()}
    return lambda **given: device.linear_forward(**(operands | {"p": 0.5, "rng": RNG} | given))


def place_of(device):
    return r"cuda:0" if device.place == "cuda" else "the CPU"


def test_operands(device, call):
    def empty(*shape, dtype="float32"):
        return device.empty(shape, dtype, 0)

    for given, error, message in (
        ({"x": [[1.0]]}, TypeError, "x must be a NumPy array of float32, float64 or bfloat16; got list"),
        (
            {"x": empty(9, 7, dtype="float64")},
            TypeError,
            "x must be float32, float16 or bfloat16 on the GPU; got (torch.)?float64",
        ),
        ({"x": empty(9, 7, dtype="int32")}, TypeError, "x must be float32, .*; got (torch.)?int32"),
        ({"x": empty(9)}, ValueError, r"x must be \[M, K\], an array of rank 2; got rank 1, shape \[9\]"),
        ({"w": 3}, TypeError, f"w must be an array on {place_of(device)}; got int"),
        ({"w": empty(5, 7, dtype="float16")}, TypeError, "w must be float32 to match x; got float16"),
        ({"w": empty(5, 8)}, ValueError, r"w must be \[N, K\] = \[\*, 7\] to match x \[9, 7\]; got \[5, 8\]"),
        ({"b": empty(6)}, ValueError, r"b must be \[N\] = \[5\] to match w \[5, 7\]; got \[6\]"),
        ({"b": empty(5, dtype="bfloat16")}, TypeError, "b must be float32 to match x; got bfloat16"),
        ({"residual": empty(5, 9)}, ValueError, r"residual must be \[M, N\] = \[9, 5\] to match y; got \[5, 9\]"),
        ({"out": empty(9, 6)}, ValueError, r"out must be \[M, N\] = \[9, 5\]; got \[9, 6\]"),
        ({"out": empty(9, 5, dtype="float16")}, TypeError, "out must be float32 to match the inputs; got float16"),
        ({"out": empty(5, 9).t()}, ValueError, "out must be C-contiguous and aligned; got other strides"),
        ({"active_inputs": empty(7)}, TypeError, "active_inputs must be bool or None; got float32"),
        (
            {"active_inputs": empty(6, dtype="bool")},
            ValueError,
            r"active_inputs must be \[K\] = \[7\] to match x; got \[6\]",
        ),
        ({"active_inputs": empty(7, dtype="bool"), "input_p": 0.1}, ValueError, "active_inputs must be None beside"),
        ({"rng": None}, ValueError, "rng is required where p > 0"),
        ({"rng": 7}, TypeError, "rng must be a fusedrop.Philox or None; got int"),
        ({"p": 1.5}, ValueError, r"p must be in \[0, 1\]; got 1.5"),
        ({"granularity": "column"}, ValueError, "granularity must be 'element' or 'unit'; got 'column'"),
        ({"activation": "elu"}, ValueError, "activation must be one of .*; got 'elu'"),
        ({"dropout_first": 1}, TypeError, "dropout_first must be True or False; got 1"),
        ({"rng": RNG.at(row0=2**32 - 2)}, ValueError, "rng.row0 [+] M must not exceed"),
    ):
        with pytest.raises(error, match=message):
            call(**given)


def test_out_over_an_input(device, call):
    memory = device.empty((200,), value=0.0)
    with pytest.raises(ValueError, match="out must not overlap x; they share memory"):
        call(x=memory[:63].reshape(9, 7), out=memory[60:105].reshape(9, 5))
    with pytest.raises(ValueError, match="out must not overlap w"):
        call(w=memory[:70].reshape(5, 14)[:, ::2], out=memory[68:113].reshape(9, 5))
    with pytest.raises(ValueError, match="out must not overlap residual"):
        call(residual=memory[:45].reshape(9, 5), out=memory[:45].reshape(9, 5))
    call(x=memory[:63].reshape(9, 7), out=memory[63:108].reshape(9, 5))


def test_backward(device, call):
    dy = device.empty((9, 5), value=1.0)
    _, saved = call(activation="relu")
    _, without_bias = call(b=None)
    one = device.empty((9, 7))
    square = device.linear_forward(device.empty((6, 6), value=1.0), device.empty((6, 6), value=1.0))[1]
    shared = device.empty((6, 6))
    for given, error, message in (
        ((None, saved), TypeError, "dy must be an array on"),
        ((device.empty((9, 6)), saved), ValueError, r"dy must be \[M, N\] = \[9, 5\] to match y; got \[9, 6\]"),
        ((device.empty((9, 5), "float16"), saved), TypeError, "dy must be float32 to match x; got float16"),
        ((dy, 3), TypeError, "saved must be what linear_forward returned; got int"),
        ((dy, saved, 1), TypeError, "dx must be True, False or an array for the result; got 1"),
        ((dy, saved, None), TypeError, "dx must be True, False or an array for the result; got None"),
        ((dy, saved, device.empty((7, 9))), ValueError, r"dx must be \[M, K\] = \[9, 7\]; got \[7, 9\]"),
        ((dy, saved, saved.x), ValueError, "dx must not overlap x; they share memory"),
        ((dy, saved, False, True, dy[0]), ValueError, "db must not overlap dy; they share memory"),
        ((dy, without_bias, True, True, device.empty((5,))), TypeError, "db must be True or False for a layer without"),
        ((device.empty((6, 6)), square, shared, shared), ValueError, "dw must not overlap dx; they share memory"),
    ):
        with pytest.raises(error, match=message):
            device.linear_backward(*given)
    assert device.linear_backward(dy, saved, dx=one)[0] is one


def test_keys_in_memory(device, call):
    for drawn, error, message in (
        (np.array([1.0, 2.0]), TypeError, "rng.drawn must be int64; got float64"),
        (np.array([1]), ValueError, r"rng.drawn must be \[2\] = \(seed, step\) or \[3\] = .*; got \[1\]"),
        (np.array([[1, 2]]), ValueError, r"rng.drawn must be .*; got \[1, 2\]"),
        (np.arange(4), ValueError, r"rng.drawn must be .*; got \[4\]"),
    ):
        with pytest.raises(error, match=message):
            call(rng=fd.DevicePhilox(device.tensor(drawn)))
    with pytest.raises(ValueError, match=r"rng.drawn must be C-contiguous"):
        call(rng=fd.DevicePhilox(device.tensor(np.arange(4))[::2]))
    with pytest.raises(ValueError, match=r"rng.stream must be left out where rng.drawn \[3\] holds the stream; got 5"):
        call(rng=fd.DevicePhilox(device.tensor(np.arange(3)), stream=5))
    with pytest.raises(TypeError, match=r"rng.drawn must be an array on .*; got list"):
        call(rng=fd.DevicePhilox([1, 2]))
    with pytest.raises(TypeError, match=r"rng must be a fusedrop.Philox or None; got DevicePhilox, a key in a GPU's"):
        fd.dropout(np.ones((2, 3), np.float32), p=0.5, rng=fd.DevicePhilox(device.tensor(np.arange(2))))


def test_other_functions(device):
    with pytest.raises(TypeError, match="out must be an array of bool or None; got float32"):
        device.dropout_mask((3, 4), 0.0, out=device.empty((3, 4)))
    with pytest.raises(ValueError, match=r"out must be \[3, 4\] to match shape; got \[4, 3\]"):
        device.dropout_mask((3, 4), 0.0, out=device.empty((4, 3), "bool", False))
    with pytest.raises(ValueError, match="x must be C-contiguous, there is no hidden copy on the GPU; got"):
        device.activate(device.empty((3, 4)).t(), "relu")
    with pytest.raises(ValueError, match=r"dy must be \[3, 4\] to match x; got \[4, 3\]"):
        device.activate_backward(device.empty((4, 3)), device.empty((3, 4)), "relu")
    with pytest.raises(ValueError, match="scaling must be 'inverted' or 'classic'; got 'none'"):
        device.dropout(device.empty((3, 4)), 0.0, scaling="none")


def test_what_requires_a_gradient_is_refused(device, call):
    x = device.tensor(draw((9, 7), 1), "float32").requires_grad_()
    with pytest.raises(ValueError, match=r"x must be an array that DLPack can share; got Tensor: .*detach"):
        call(x=x)
    with torch.no_grad():
        call(x=x)
    with pytest.raises(ValueError, match="w must hold its values in memory; got a lazily negated view"):
        call(w=torch.complex(*[device.empty((5, 7), value=1.0)] * 2).conj().imag)


def test_imported_arrays_are_released(device, call):
    x = device.tensor(draw((9, 7), 1), "float32")
    gone = weakref.ref(x)
    y, saved = call(x=x, activation="relu")
    device.linear_backward(y, saved)
    del x
    assert gone() is not None
    del saved
    gc.collect()
    assert gone() is None


def test_a_key_in_memory_lives_as_long_as_its_context(device, call):
    drawn = device.tensor(np.array([7, 0]))
    gone = weakref.ref(drawn)
    _, saved = call(rng=fd.DevicePhilox(drawn))
    del drawn
    assert gone() is not None
    del saved
    gc.collect()
    assert gone() is None


class Elsewhere:
    def __dlpack__(self, **options):
        raise AssertionError("its memory must not be read")

    def __dlpack_device__(self):
        return 2, 3


def test_another_device_is_refused(device, call):
    with pytest.raises(ValueError, match=f"w must be on {place_of(device)} to match x; got cuda:3"):
        call(w=Elsewhere())
    if device.place == "cuda":
        with pytest.raises(ValueError, match="w must be on cuda:0 to match x; got the CPU"):
            call(w=torch.ones(5, 7))
        with pytest.raises(ValueError, match="w must be on the CPU, this call runs there only; got cuda:0"):
            call(x=torch.ones(9, 7))


class WithoutExchange(torch.Tensor):
    __dlpack_c_exchange_api__ = None


def every_function(device, x, w, b, dy, keep):
    y, saved = device.linear_forward(x, w, b, activation="gelu", p=0.3, input_p=0.1, rng=RNG, residual=dy)
    unit = device.linear_forward(x, w, b, p=0.5, rng=RNG, granularity="unit")[1].active_outputs
    results = [y, saved.saved_activation, *device.linear_backward(dy, saved), device.dropout(x, 0.3, RNG), unit]
    results += [device.activate(x, "silu"), device.activate_backward(dy, y, "tanh")]
    return [*results, device.dropout_mask((33, 40), 0.3, RNG, out=keep)]


def arrays():
    return [draw(s, i).astype(np.float32) for i, s in enumerate(((33, 21), (40, 21), 40, (33, 40)))]


def test_the_protocol_gives_what_exchange_functions_give(device):
    tensors = [device.tensor(a) for a in arrays()] + [device.empty((33, 40), "bool", False)]
    want = every_function(device, *tensors)
    got = every_function(device, *(t.as_subclass(WithoutExchange) for t in tensors))
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    mixed = every_function(device, tensors[0], tensors[1].as_subclass(WithoutExchange), *tensors[2:])
    assert all(torch.equal(g, w) for g, w in zip(mixed, want, strict=True))
    assert all(type(t) is torch.Tensor for t in mixed)


@pytest.fixture
def emulated(device):
    if device.place != "cpu":
        pytest.skip("arrays of the CPU: the emulation's own")
    return device


class Adapted:
    """An array of a library with an adapter, as CuPy's: DLPack without exchange functions."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_library_with_an_adapter(emulated, monkeypatch, dtype):
    adapter = libraries.Adapter(lambda device: 0, lambda like, shape, dtype: Adapted(np.empty(shape, dtype)))
    monkeypatch.setitem(libraries.ADAPTERS, __name__.partition(".")[0], adapter)
    ours = [a.astype(dtype) for a in arrays()]
    want = every_function(emulated, *map(torch.from_numpy, ours), emulated.empty((33, 40), "bool", False))
    got = every_function(emulated, *map(Adapted, ours), Adapted(np.zeros((33, 40), bool)))
    for g, w in zip(got, want, strict=True):
        assert type(g) is Adapted
        assert np.array_equal(g.array, w.numpy())
    ours[0][...] = ours[0][::-1].copy()
    x, w = Adapted(ours[0][::-1, ::-1]), Adapted(ours[1][:, ::-1])
    dense = [Adapted(np.ascontiguousarray(a.array)) for a in (x, w)]
    assert np.array_equal(emulated.linear(x, w).array, emulated.linear(*dense).array)
    memory = np.zeros(40 * 40, dtype)
    x, out = Adapted(memory.reshape(40, 40)[33:0:-1, :21]), Adapted(memory[: 33 * 40].reshape(33, 40))
    with pytest.raises(ValueError, match="out must not overlap x"):  # x has a negative row stride
        emulated.linear(x, Adapted(ours[1]), out=out)
    ours[0].flags.writeable = False
    emulated.linear(*map(Adapted, ours[:2]))
    read_only = np.zeros((33, 40), dtype)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable; got a read-only array"):
        emulated.linear(*map(Adapted, ours[:2]), out=Adapted(read_only))


class WithoutStream:
    """An array of a library that exposes DLPack and no stream, as JAX does."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        return types.SimpleNamespace(from_dlpack=lambda array: WithoutStream(np.from_dlpack(array)))

    def __array__(self, dtype=None, copy=None):
        return self.array


def assert_own_stream_serves(emulated, make, array_type):
    """Every function gives arrays of the library, with the values that PyTorch's tensors get."""
    ours = arrays()
    want = every_function(emulated, *map(torch.from_numpy, ours), emulated.empty((33, 40), "bool", False))[:-1]
    x, w, b, dy = map(make, ours)
    y, saved = emulated.linear_forward(x, w, b, activation="gelu", p=0.3, input_p=0.1, rng=RNG, residual=dy)
    unit = emulated.linear_forward(x, w, b, p=0.5, rng=RNG, granularity="unit")[1].active_outputs
    got = [y, saved.saved_activation, *emulated.linear_backward(dy, saved), emulated.dropout(x, 0.3, RNG), unit]
    got += [emulated.activate(x, "silu"), emulated.activate_backward(dy, y, "tanh")]
    for g, expected in zip(got, want, strict=True):
        assert isinstance(g, array_type)
        assert np.array_equal(np.asarray(g), expected.numpy())


def test_a_library_without_a_stream_gets_memory_of_fusedrops_own_stream(emulated):
    """The emulation lacks only the stream itself."""
    assert_own_stream_serves(emulated, WithoutStream, WithoutStream)


def test_jax_gets_memory_of_fusedrops_own_stream(emulated):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert_own_stream_serves(emulated, jax.numpy.asarray, jax.Array)
    x, w = map(jax.numpy.asarray, arrays()[:2])
    with pytest.raises(ValueError, match="out must be writeable; got a read-only array"):
        emulated.linear(x, w, out=jax.numpy.zeros((33, 40)))
