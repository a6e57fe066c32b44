"""The public interface: names, signatures, documentation, and what every result looks like."""

import inspect
import itertools
import types

import fusedrop as fd
import numpy as np
import pytest

RNG = fd.Philox(seed=1, stream=2, step=3)
DTYPES = ["float32", "float64"]
LAYER = (
    "(x, w, b=None, *, activation='identity', p=0.0, rng=None, dropout_before_activation=False, input_p=0.0, "
    "residual=None, granularity='element', kept_inputs=None, out=None)"
)
SIGNATURES = {
    "linear": LAYER,
    "linear_forward": LAYER,
    "linear_backward": "(dy, saved, *, dx=True, dw=True, db=True)",
    "dropout": "(x, *, p, rng=None, granularity='element', scaling='inverted')",
    "dropout_mask": "(shape, *, p, rng=None, granularity='element', out=None)",
    "activate": "(x, activation)",
    "activate_backward": "(dy, x, activation)",
    "softmax_cross_entropy": "(logits, labels)",
    "Linear": (
        "(in_features, out_features, *, bias=True, activation='identity', dropout=0.0, "
        "dropout_before_activation=False, input_dropout=0.0, granularity='element', dtype='float32', init=None, "
        "seed=None, stream=None)"
    ),
    "Linear.forward": "(self, x, train=True, *, residual=None, kept_inputs=None)",
    "lstm_forward": (
        "(x, w_ih, w_hh, b=None, *, h0=None, c0=None, input_p=0.0, recurrent_p=0.0, rng=None, time_constant=True, "
        "gate_masks=None, return_sequences=True)"
    ),
    "lstm_backward": "(dy, saved, *, dh=None, dc=None, dx=True, dw_ih=True, dw_hh=True, db=True)",
    "LSTM": (
        "(input_size, hidden_size, *, dropout=0.0, recurrent_dropout=0.0, time_constant=True, gate_masks=None, "
        "return_sequences=False, forget_bias=1.0, dtype='float32', seed=None, stream=None)"
    ),
    "LSTM.forward": "(self, x, train=True, *, initial_state=None)",
    "LSTM.backward": "(self, dy, input_grad=True, *, last_state_grads=None)",
    "Dropout": "(p=0.5, *, scaling='inverted', granularity='element', seed=None, stream=None)",
    "Sequential": "(*layers, seed=None)",
    "SGD": "(parameters, *, lr, momentum=0.0, nesterov=False, l1=0.0, l2=0.0)",
    "Adam": "(parameters, *, lr=0.001, betas=(0.9, 0.999), eps=1e-08, l1=0.0, l2=0.0)",
} | dict.fromkeys(("ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Flatten"), "()")
CALLS = {
    "forward": "(self, x, train=True)",
    "__call__": "(self, x, train=True, **options)",
    "backward": "(self, dy, input_grad=True)",
}
SIGNATURES |= {
    f"{layer}.{name}": text
    for layer in ("Layer", "Linear", "Dropout", "Activation", "Flatten", "Sequential")
    for name, text in CALLS.items()
    if (layer, name) != ("Linear", "forward")
}


def public(path):
    value = fd
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature(path):
    signature = inspect.signature(public(path))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == SIGNATURES[path]


DOCUMENTED = [name for name in fd.__all__ if name not in ("__version__", "activations")]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_everything_public_is_documented(name):
    """In words or a formula: pybind11's own line of types, name(...) -> type, is no documentation."""
    lines = (inspect.getdoc(getattr(fd, name)) or "").splitlines()
    assert "".join(line for line in lines if not line.startswith(f"{name}(")).strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if isinstance(getattr(fd, name), type)])
def test_public_methods_are_documented(name):
    for method, function in inspect.getmembers(getattr(fd, name), inspect.isroutine):
        if not method.startswith("_") and method not in ("forward", "backward"):  # those are the class's own text
            assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_names():
    assert sorted(fd.__all__) == sorted(set(fd.__all__))
    public_names = {n for n, v in vars(fd).items() if not n.startswith("_") and not isinstance(v, types.ModuleType)}
    assert public_names <= set(fd.__all__)
    assert isinstance(fd.reference, types.ModuleType)
    assert fd.activations == ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")
    assert fd.isa() in fd.available_isas()
    assert set(fd.available_isas()) <= {"scalar", "avx2", "avx512", "avx512_bf16"}
    assert fd.available_isas()[0] == "scalar"
    for name in (
        "linear",
        "linear_forward",
        "linear_backward",
        "dropout",
        "dropout_mask",
        "activate",
        "activate_backward",
    ):
        assert callable(getattr(fd.reference, name))


def test_threads(threads):
    default = fd.get_num_threads()
    assert default >= 1
    for n in (1, 3, np.int64(2)):
        threads(n)
        assert fd.get_num_threads() == n
    threads(0)
    assert fd.get_num_threads() == default


def draw(*shape, dtype):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def assert_result(array, shape, dtype):
    assert type(array) is np.ndarray
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_results_are_c_contiguous_and_of_the_inputs_dtype(dtype, order):
    x, w, b, dy = (np.asarray(draw(*s, dtype=dtype), order=order) for s in [(4, 6), (5, 6), (5,), (4, 5)])
    y, saved = fd.linear_forward(x, w, b, activation="gelu", p=0.5, rng=RNG)
    assert_result(y, (4, 5), dtype)
    for gradient, like in zip(fd.linear_backward(dy, saved), (x, w, b), strict=True):
        assert_result(gradient, like.shape, dtype)
    assert np.array_equal(fd.linear(x, w, b, activation="gelu", p=0.5, rng=RNG), y)
    for result in (
        fd.dropout(x, p=0.5, rng=RNG),
        fd.activate(x, "tanh"),
        fd.activate_backward(x, x, "tanh"),
        fd.Dropout(0.5, scaling="classic").forward(x, False),
    ):
        assert_result(result, (4, 6), dtype)
    assert_result(fd.softmax_cross_entropy(x, np.arange(4))[1], (4, 6), dtype)
    assert_result(fd.dropout_mask((4, 6), p=0.5, rng=RNG), (4, 6), bool)
    assert_result(fd.dropout_mask(6, p=0.5, rng=RNG), (6,), bool)
    assert_result(fd.dropout_mask([2, 3], p=0.5, rng=RNG), (2, 3), bool)


KEPT = {
    ("identity", False): "nothing",
    ("relu", False): "y",
    ("gelu", False): "z",
    ("identity", True): "nothing",
    ("relu", True): "z",
}


@pytest.mark.parametrize(("activation", "residual"), KEPT)
def test_saved_shows_what_it_keeps(activation, residual):
    kind = KEPT[activation, residual]
    x, w, r = draw(4, 6, dtype="f4"), draw(5, 6, dtype="f4"), draw(4, 5, dtype="f4")
    y, saved = fd.linear_forward(x, w, activation=activation, residual=r if residual else None, p=0.5, rng=RNG)
    assert saved.kind == kind
    assert np.shares_memory(saved.x, x)
    assert np.shares_memory(saved.w, w)
    assert (saved.kept is None) == (kind == "nothing")
    assert kind != "y" or np.shares_memory(saved.kept, y)
    assert kind != "z" or not np.shares_memory(saved.kept, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
def test_out_is_returned_and_holds_the_result(isa, activation, dtype):
    x, w, b, residual, dy = (draw(*s, dtype=dtype) for s in [(9, 40), (33, 40), (33,), (9, 33), (9, 33)])
    for options in ({}, {"residual": residual}, {"p": 0.5, "rng": RNG}):
        options["activation"] = activation
        want, want_saved = fd.linear_forward(x, w, b, **options)
        for out in (np.full((9, 33), np.nan, dtype), np.full((3, 9, 33), np.nan, dtype)[1]):
            got, saved = fd.linear_forward(x, w, b, out=out, **options)
            assert got is out
            assert out.tobytes() == want.tobytes()
            for a, expected in zip(fd.linear_backward(dy, saved), fd.linear_backward(dy, want_saved), strict=True):
                assert a.tobytes() == expected.tobytes()
            out[...] = np.nan
            assert fd.linear(x, w, b, out=out, **options) is out
            assert out.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
def test_every_choice_of_gradients(isa, has_bias, dtype):
    """True, False or a destination for each: the ones that are wanted are the same bits in every combination."""
    x, w, b, dy = (draw(*s, dtype=dtype) for s in [(9, 40), (33, 40), (33,), (9, 33)])
    options = {"activation": "silu", "p": 0.3, "rng": RNG, "input_p": 0.2}
    _, saved = fd.linear_forward(x, w, b if has_bias else None, **options)
    wanted = dict(zip(("dx", "dw", "db"), fd.linear_backward(dy, saved), strict=True))
    assert (wanted["db"] is None) == (not has_bias)
    kinds = ["new", "none", "given"]
    for choice in itertools.product(kinds, kinds, kinds if has_bias else kinds[:2]):
        asked = dict(zip(wanted, choice, strict=True))
        arguments = {
            name: np.full(wanted[name].shape, np.nan, dtype) if kind == "given" else kind == "new"
            for name, kind in asked.items()
        }
        for name, got in zip(wanted, fd.linear_backward(dy, saved, **arguments), strict=True):
            if asked[name] == "none" or wanted[name] is None:
                assert got is None
            else:
                assert got.tobytes() == wanted[name].tobytes()
                assert asked[name] == "new" or got is arguments[name]


def test_saved_serves_more_than_once():
    x, w, dy = draw(9, 4, dtype="f4"), draw(3, 4, dtype="f4"), draw(9, 3, dtype="f4")
    _, saved = fd.linear_forward(x, w, activation="tanh", p=0.5, rng=RNG)
    for first, second in zip(fd.linear_backward(dy, saved)[:2], fd.linear_backward(dy, saved)[:2], strict=True):
        assert np.array_equal(first, second)
