"""Layers refuse wrong arrays, a wrong order of calls and wrong settings, and keep their state when they do."""

import os
import subprocess
import sys

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows, not_a_probability

ONES = np.ones((3, 4), np.float32)
WRONG = [
    (np.ones((3, 4), int), "int64"),
    (np.ones((3, 4), np.float16), "float16"),
    (np.ones((3, 4), object), "object"),
    (np.ones((3, 4), ">f4"), ">f4"),
    ([[1.0]], "list"),
    (None, "NoneType"),
]
LAYERS = {
    "Linear": lambda: fd.Linear(4, 4, p=0.5, seed=1),
    "Dropout": lambda: fd.Dropout(0.5, seed=1),
    "classic Dropout": lambda: fd.Dropout(0.5, scaling="classic", seed=1),
    "ReLU": fd.ReLU,
    "GELU": fd.GELU,
    "SiLU": fd.SiLU,
    "Tanh": fd.Tanh,
    "Sigmoid": fd.Sigmoid,
    "Flatten": fd.Flatten,
    "Sequential": lambda: fd.Sequential(fd.Linear(4, 4, seed=1), fd.ReLU()),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@layers
@pytest.mark.parametrize("train", [True, False], ids=["train", "test"])
@pytest.mark.parametrize(("value", "got"), WRONG, ids=[got for _, got in WRONG])
def test_forward_refuses_what_is_no_floating_array(make, train, value, got):
    """At test time too: the textbook's x * (1 - p) of integers would be all zeros."""
    arguments = {"x": value, "train": train}
    assert_refused(make().forward, arguments, TypeError, "x", "NumPy array of float32, float64 or bfloat16", got)


@layers
@pytest.mark.parametrize("train", [True, False], ids=["train", "test"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (12,), (3, 4, 1)])
def test_backward_refuses_a_gradient_of_another_shape(make, train, shape):
    layer = make()
    layer.forward(ONES, train)
    arguments = {"dy": np.ones(shape, np.float32)}
    assert_refused(layer.backward, arguments, ValueError, "dy", "[3, 4]", str(list(shape)))


@layers
@pytest.mark.parametrize(("value", "got"), [*WRONG[1:], (np.ones((3, 4)), "float64")], ids=lambda v: str(v)[:10])
def test_backward_refuses_a_gradient_of_another_type(make, value, got):
    layer = make()
    layer.forward(ONES)
    assert_refused(layer.backward, {"dy": value}, TypeError, "dy", "float32", got)


@layers
@pytest.mark.parametrize("input_grad", [True, False])
def test_backward_before_forward(make, input_grad):
    layer = make()
    first_to_run = layer[-1] if isinstance(layer, fd.Sequential) else layer
    with pytest.raises(RuntimeError, match=rf"{type(first_to_run).__name__}\.backward needs a forward call first"):
        layer.backward(ONES, input_grad)


def test_linear_names_the_shapes():
    layer = fd.Linear(4, 5, seed=1)
    for x, got in [(ONES[:, :3], "[5, 4]"), (ONES.astype("f8"), "float32")]:
        with pytest.raises((TypeError, ValueError), match=r"^w must .* to match x") as caught:
            layer(x)
        assert str(caught.value).endswith(f"got {got}")
    with pytest.raises(ValueError, match=r"^x must be \[M, K\], .*; got rank 1, shape \[4\]"):
        layer(ONES[0])
    with pytest.raises(ValueError, match=r"^residual must be \[M, N\] = \[3, 5\] .*; got \[3, 4\]"):
        layer.forward(ONES, residual=ONES)


def test_flatten_needs_a_batch_axis():
    assert_refused(fd.Flatten().forward, {"x": np.array(1, np.float32)}, ValueError, "x", "[M, ", "[]")


@pytest.mark.parametrize("make", [LAYERS["Linear"], LAYERS["Dropout"]], ids=["Linear", "Dropout"])
def test_a_refused_call_draws_no_mask(make):
    layer, twin = make(), make()
    twin.mask_key.rng = layer.mask_key.rng
    with pytest.raises(TypeError):
        layer(ONES.astype(int))
    assert np.array_equal(layer(ONES), twin(ONES))


RATES = {
    fd.Linear: ("p", "input_p"),
    fd.Conv2d: ("p", "input_p"),
    fd.LSTM: ("input_p", "recurrent_p"),
    fd.Dropout: ("p",),
}
SIZES = {fd.Linear: (4, 4), fd.Conv2d: (3, 4, 2), fd.LSTM: (3, 4), fd.Dropout: ()}
SETTERS = [(make, *row) for make, names in RATES.items() for name in names for row in not_a_probability(name)]


@pytest.mark.parametrize(
    ("make", "name", "value", "error", "wanted", "got"),
    SETTERS,
    ids=name_rows([(row[0].__name__, *row[1:]) for row in SETTERS]),
)
def test_a_rate_set_on_a_live_layer_is_checked_and_kept(make, name, value, error, wanted, got):
    layer = make(*SIZES[make])
    before = getattr(layer, name)
    assert_refused(lambda value: setattr(layer, name, value), {"value": value}, error, name, wanted, got)
    assert getattr(layer, name) == before


@pytest.mark.parametrize("value", [-0.1, float("nan"), "0.1"])
@pytest.mark.parametrize("make", [fd.training.SGD, fd.training.Adam])
def test_a_rate_set_on_a_live_optimizer_is_checked(make, value):
    """An error at once, or at the next step: the wrong rate must not change the weights."""
    layer = fd.Linear(3, 2, seed=1)
    before = layer.params["weight"].copy()
    optimizer = make(layer.parameters(), lr=0.1)

    def set_and_step():
        optimizer.lr = value
        optimizer.step()

    with pytest.raises((TypeError, ValueError), match=r"^lr must .*; got "):
        set_and_step()
    assert np.array_equal(layer.params["weight"], before)


def test_one_layer_twice_in_a_network_is_refused():
    """Its second forward call would overwrite what the first call's backward needs."""
    layer = fd.Linear(3, 3)
    with pytest.raises(ValueError, match=r"^layers\["):
        fd.Sequential(layer, fd.ReLU(), layer)


@pytest.mark.parametrize(
    ("call", "arguments", "named"),
    [
        (fd.Philox, {}, "seed"),
        (fd.Philox, {"seed": 1, "sed": 2}, "sed"),
        (fd.Philox(1).at, {"row": 3}, "row"),
        (fd.Philox(1).tied, {"every": 3}, "every"),
    ],
    ids=["none", "sed", "row", "every"],
)
def test_a_missing_or_misspelt_argument_is_named(call, arguments, named):
    with pytest.raises(TypeError) as caught:
        call(**arguments)
    assert "incompatible" not in str(caught.value)
    assert f"{named}" in str(caught.value)


def test_an_unknown_instruction_set_in_the_environment():
    environment = os.environ | {"FUSEDROP_ISA": "sse2"}
    command = [sys.executable, "-c", "import fusedrop"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 1
    assert last.startswith("ImportError: FUSEDROP_ISA: isa must be one of those available")
    assert last.endswith("got 'sse2'")
