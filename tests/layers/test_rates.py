"""The dropout rates of a layer: attributes, checked when they are set, on the live layer and on its class."""

import copy
import inspect
import pickle

import fusedrop as fd
import numpy as np
import pytest
from fusedrop.layers.base import Rate

LAYERS = {
    fd.Linear: ((4, 3), ("p", "input_p")),
    fd.Conv2d: ((3, 4, 2), ("p", "input_p")),
    fd.LSTM: ((3, 4), ("input_p", "recurrent_p")),
    fd.Dropout: ((), ("p",)),
}
RATES = [(kind, name) for kind, (_, names) in LAYERS.items() for name in names]
each = pytest.mark.parametrize(("kind", "name"), RATES, ids=[f"{kind.__name__}.{name}" for kind, name in RATES])


def build(kind, **rates):
    return kind(*LAYERS[kind][0], seed=1, stream=2, **rates)


@each
def test_the_argument_is_the_attribute(kind, name):
    layer = build(kind, **{name: 0.25})
    assert getattr(layer, name) == 0.25
    assert name in inspect.signature(kind).parameters
    others = [other for other in LAYERS[kind][1] if other != name]
    assert all(getattr(layer, other) == 0.0 for other in others)


@each
def test_the_class_has_the_descriptor_with_its_documentation(kind, name):
    descriptor = getattr(kind, name)
    assert isinstance(descriptor, Rate)
    assert descriptor.__doc__.startswith("Probability of dropping")


@each
@pytest.mark.parametrize("value", [0, 1, np.float32(0.5), np.float64(0.5), np.int64(1)], ids=repr)
def test_a_rate_is_stored_as_a_float(kind, name, value):
    layer = build(kind)
    setattr(layer, name, value)
    assert type(getattr(layer, name)) is float
    assert getattr(layer, name) == value


@each
def test_the_error_at_construction_is_that_of_setting(kind, name):
    messages = []
    for call in (lambda: build(kind, **{name: 1.5}), lambda: setattr(build(kind), name, 1.5)):
        with pytest.raises(ValueError, match=rf"^{name} must be a number in \[0, 1\]; got 1\.5$") as caught:
            call()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@each
def test_layers_do_not_share_their_rates(kind, name):
    one, other = build(kind, **{name: 0.5}), build(kind, **{name: 0.25})
    setattr(one, name, 0.75)
    assert (getattr(one, name), getattr(other, name)) == (0.75, 0.25)


@each
def test_copies_and_pickles_have_the_rate(kind, name):
    layer = build(kind)
    setattr(layer, name, 0.375)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert getattr(twin, name) == 0.375


@pytest.mark.parametrize("kind", LAYERS)
def test_a_schedule_sets_the_rate_that_the_layer_names(kind):
    layer = build(kind, **dict.fromkeys(LAYERS[kind][1], 0.5))
    fd.training.StepSchedule(0.9, 1).apply(layer, 0)
    assert layer.scheduled_rate == ("input_p" if kind is fd.LSTM else "p")
    assert {name: getattr(layer, name) for name in LAYERS[kind][1]} == {
        name: 0.9 if name == layer.scheduled_rate else 0.5 for name in LAYERS[kind][1]
    }
