"""The public interface: names, signatures, documentation, and the shape, dtype and strides of every result."""

import inspect
import itertools
import re
import types

import fusedrop as fd
import numpy as np
import pytest

RNG = fd.Philox(seed=1, stream=2, step=3)
DTYPES = ["float32", "float64"]
LAYER = (
    "(x, w, b=None, *, activation='identity', p=0.0, rng=None, dropout_first=False, input_p=0.0, "
    "residual=None, granularity='element', active_inputs=None, out=None)"
)
SIGNATURES = {
    "linear": LAYER,
    "linear_forward": LAYER,
    "linear_backward": "(dy, saved, *, dx=True, dw=True, db=True)",
    "dropout": "(x, *, p, rng=None, granularity='element', scaling='inverted')",
    "dropout_mask": "(shape, *, p, rng=None, granularity='element', out=None)",
    "dropout_forward": "(x, *, p, rng=None, granularity='element', scaling='inverted')",
    "dropout_backward": "(dy, saved)",
    "activate": "(x, activation)",
    "activate_forward": "(x, activation)",
    "activate_backward": "(dy, saved)",
    "softmax_cross_entropy": "(logits, labels)",
    "Linear": (
        "(in_features, out_features, *, bias=True, activation='identity', p=0.0, "
        "dropout_first=False, input_p=0.0, granularity='element', dtype='float32', init=None, "
        "seed=None, stream=None)"
    ),
    "Linear.forward": "(self, x, train=True, *, residual=None, active_inputs=None)",
    "conv2d_forward": (
        "(x, w, b=None, *, stride=1, padding=0, layout='NCHW', activation='identity', p=0.0, rng=None, "
        "dropout_first=False, input_p=0.0, granularity='element')"
    ),
    "conv2d_backward": "(dy, saved, *, dx=True, dw=True, db=True)",
    "Conv2d": (
        "(in_channels, out_channels, kernel_size, *, stride=1, padding=0, bias=True, activation='identity', p=0.0, "
        "dropout_first=False, input_p=0.0, granularity='element', layout='NCHW', dtype='float32', init=None, "
        "seed=None, stream=None)"
    ),
    "max_pool2d_forward": "(x, kernel_size, stride=None, padding=0, *, ceil_mode=False, layout='NCHW')",
    "max_pool2d_backward": "(dy, saved)",
    "avg_pool2d_forward": (
        "(x, kernel_size, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True, layout='NCHW')"
    ),
    "avg_pool2d_backward": "(dy, saved)",
    "lstm_forward": (
        "(x, w_ih, w_hh, b=None, *, h0=None, c0=None, input_p=0.0, recurrent_p=0.0, rng=None, time_constant=True, "
        "gate_masks=None, return_sequences=True)"
    ),
    "lstm_backward": "(dy, saved, *, dh=None, dc=None, dx=True, dw_ih=True, dw_hh=True, db=True)",
    "LSTM": (
        "(input_size, hidden_size, *, input_p=0.0, recurrent_p=0.0, time_constant=True, gate_masks=None, "
        "return_sequences=False, forget_bias=1.0, dtype='float32', seed=None, stream=None)"
    ),
    "LSTM.forward": "(self, x, train=True, *, initial_state=None)",
    "LSTM.backward": "(self, dy, input_grad=True, *, last_state_grads=None)",
    "Dropout": "(p=0.5, *, scaling='inverted', granularity='element', seed=None, stream=None)",
    "Sequential": "(*layers, seed=None)",
    "save": "(net, path, *, optimizer=None)",
    "load": "(net, path, *, masks=None, optimizer=None)",
    "training.save": "(net, path, *, optimizer=None)",
    "training.load": "(net, path, *, masks=None, optimizer=None)",
    "training.Trainer": "(net, optimizer, loss=<softmax_cross_entropy>, *, accuracy=True, callbacks=())",
    "training.penalty": "(net, *, l1=0.0, l2=0.0)",
    "training.split_validation": "(x, y, fraction, *, seed=0)",
    "training.SGD": "(parameters, *, lr, momentum=0.0, nesterov=False, l1=0.0, l2=0.0)",
    "training.Adam": "(parameters, *, lr=0.001, betas=(0.9, 0.999), eps=1e-08, l1=0.0, l2=0.0)",
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
    text = re.sub(r"<function (\w+) at 0x\w+>", r"<\1>", str(inspect.Signature(plain)))
    assert text == SIGNATURES[path]


DATA = {"__version__", "activations", "reference.ACTIVATIONS", "reference.INPUT_STREAM", "reference.UNIT_ROW"}
MODULES = {"": fd, "config.": fd.config, "training.": fd.training, "reference.": fd.reference}
PATHS = [prefix + name for prefix, module in MODULES.items() for name in module.__all__]
DOCUMENTED = [path for path in PATHS if path not in DATA]


@pytest.mark.parametrize("path", DOCUMENTED)
def test_everything_public_is_documented(path):
    """In words or a formula: pybind11's own line of types, name(...) -> type, is no documentation."""
    lines, name = (inspect.getdoc(public(path)) or "").splitlines(), path.rpartition(".")[2]
    assert "".join(line for line in lines if not line.startswith(f"{name}(")).strip(), f"{path} has no docstring"


@pytest.mark.parametrize("path", [path for path in DOCUMENTED if isinstance(public(path), type)])
def test_public_methods_are_documented(path):
    for method, function in inspect.getmembers(public(path), inspect.isroutine):
        if not method.startswith("_") and method not in ("forward", "backward"):  # those are the class's own text
            assert inspect.getdoc(function), f"{path}.{method} has no docstring"


@pytest.mark.parametrize("module", MODULES.values(), ids=lambda module: module.__name__)
def test_names_are_unique_and_exist(module):
    assert len(set(module.__all__)) == len(module.__all__)
    assert {name.split(".")[0] for name in module.__all__} <= set(dir(module))


def test_names():
    assert sorted(fd.__all__) == sorted(set(fd.__all__))
    public_names = {n for n, v in vars(fd).items() if not n.startswith("_") and not isinstance(v, types.ModuleType)}
    assert public_names <= set(fd.__all__)
    assert isinstance(fd.reference, types.ModuleType)
    assert fd.activations == ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")
    assert fd.config.get_isa() in fd.config.available_isas()
    assert set(fd.config.available_isas()) <= {"scalar", "avx2", "avx512", "avx512_bf16"}
    assert fd.config.available_isas()[0] == "scalar"
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
    default = fd.config.get_num_threads()
    assert default >= 1
    for n in (1, 3, np.int64(2)):
        threads(n)
        assert fd.config.get_num_threads() == n
    threads(0)
    assert fd.config.get_num_threads() == default


def normal(*shape, dtype):
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
    x, w, b, dy = (np.asarray(normal(*s, dtype=dtype), order=order) for s in [(4, 6), (5, 6), (5,), (4, 5)])
    y, saved = fd.linear_forward(x, w, b, activation="gelu", p=0.5, rng=RNG)
    assert_result(y, (4, 5), dtype)
    for gradient, like in zip(fd.linear_backward(dy, saved), (x, w, b), strict=True):
        assert_result(gradient, like.shape, dtype)
    assert np.array_equal(fd.linear(x, w, b, activation="gelu", p=0.5, rng=RNG), y)
    for result in (
        fd.dropout(x, p=0.5, rng=RNG),
        fd.activate(x, "tanh"),
        fd.activate_backward(x, fd.ActivationContext(x, "tanh")),
        fd.Dropout(0.5, scaling="classic").forward(x, False),
    ):
        assert_result(result, (4, 6), dtype)
    assert_result(fd.softmax_cross_entropy(x, np.arange(4))[1], (4, 6), dtype)
    assert_result(fd.dropout_mask((4, 6), p=0.5, rng=RNG), (4, 6), bool)
    assert_result(fd.dropout_mask(6, p=0.5, rng=RNG), (6,), bool)
    assert_result(fd.dropout_mask([2, 3], p=0.5, rng=RNG), (2, 3), bool)


SAVED_KINDS = {
    ("identity", False): "nothing",
    ("relu", False): "y",
    ("gelu", False): "z",
    ("identity", True): "nothing",
    ("relu", True): "z",
}


@pytest.mark.parametrize(("activation", "residual"), SAVED_KINDS)
def test_the_context_shows_what_it_holds(activation, residual):
    kind = SAVED_KINDS[activation, residual]
    x, w, r = normal(4, 6, dtype="f4"), normal(5, 6, dtype="f4"), normal(4, 5, dtype="f4")
    y, saved = fd.linear_forward(x, w, activation=activation, residual=r if residual else None, p=0.5, rng=RNG)
    assert saved.kind == kind
    assert np.shares_memory(saved.x, x)
    assert np.shares_memory(saved.w, w)
    assert (saved.saved_activation is None) == (kind == "nothing")
    assert kind != "y" or np.shares_memory(saved.saved_activation, y)
    assert kind != "z" or not np.shares_memory(saved.saved_activation, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
def test_out_is_returned_and_holds_the_result(isa, activation, dtype):
    x, w, b, residual, dy = (normal(*s, dtype=dtype) for s in [(9, 40), (33, 40), (33,), (9, 33), (9, 33)])
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
    x, w, b, dy = (normal(*s, dtype=dtype) for s in [(9, 40), (33, 40), (33,), (9, 33)])
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
    x, w, dy = normal(9, 4, dtype="f4"), normal(3, 4, dtype="f4"), normal(9, 3, dtype="f4")
    _, saved = fd.linear_forward(x, w, activation="tanh", p=0.5, rng=RNG)
    for first, second in zip(fd.linear_backward(dy, saved)[:2], fd.linear_backward(dy, saved)[:2], strict=True):
        assert np.array_equal(first, second)
