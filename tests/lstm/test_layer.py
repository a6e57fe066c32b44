"""The LSTM layer is its function with the layer's own mask key; and the layouts of other libraries."""

import copy
import math
import pickle

import fusedrop as fd
import numpy as np
import pytest
from lstm_by_hand import NAMES, random_case

B, T, K, H = 5, 4, 6, 7
INPUT_STREAM = 0x80000000


def case(dtype="float32"):
    return random_case(B, T, K, H, dtype)


def same(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


def weights(layer):
    return [layer.params[name] for name in ("weight_ih", "weight_hh", "bias")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize(("constant", "by_gate"), [(True, None), (True, False), (False, True)])
def test_layer_is_its_function(constant, by_gate, sequences, dtype):
    rules = {"time_constant": constant, "gate_masks": by_gate, "return_sequences": sequences}
    layer = fd.LSTM(K, H, input_p=0.2, recurrent_p=0.4, dtype=dtype, seed=3, stream=8, **rules)
    a = case(dtype)
    dy = a.dy if sequences else a.dh
    for step, train in enumerate((True, True, False)):
        rates = {"input_p": 0.2, "recurrent_p": 0.4} if train else {}
        rng = fd.Philox(3, 8, step)
        y, (h, c), saved = fd.lstm_forward(a.x, *weights(layer), h0=a.h0, c0=a.c0, rng=rng, **rates, **rules)
        want = fd.lstm_backward(dy, saved, dh=a.dh, dc=a.dc)
        same(layer.forward(a.x, train, initial_state=(a.h0, a.c0)), y)
        same(layer.backward(dy, last_state_grads=(a.dh, a.dc)), want.dx)
        for got, expected in zip((*layer.last_state, *layer.initial_state_grads), (h, c, *want[4:]), strict=True):
            same(got, expected)
        for got, expected in zip(layer.grads.values(), want[1:4], strict=True):
            same(got, expected)
    assert layer.mask_key.rng.step == 2
    assert list(layer.params) == list(layer.grads) == ["weight_ih", "weight_hh", "bias"]
    assert layer.backward(dy, input_grad=False) is None


def seen_masks(layer, x):
    """The mask of x in the last call, seen in dx: that of gate i, or the one that all gates share."""
    return layer.backward(np.ones((*x.shape[:2], layer.hidden_size), x.dtype)) != 0


def test_masks_are_constant_over_time_and_drawn_again_at_the_next_call():
    layer = fd.LSTM(40, H, input_p=0.5, return_sequences=True, seed=11, stream=6)
    x = np.ones((B, T, 40), np.float32)
    for step in range(3):
        layer.forward(x)
        want = fd.dropout_mask((B, 40), p=0.5, rng=fd.Philox(11, 6 ^ INPUT_STREAM, step))
        assert np.array_equal(seen_masks(layer, x), np.broadcast_to(want[:, None], x.shape))


def test_masks_of_every_step_where_not_constant():
    layer = fd.LSTM(40, H, input_p=0.5, time_constant=False, return_sequences=True, seed=11, stream=6)
    x = np.ones((B, T, 40), np.float32)
    layer.forward(x)
    assert np.array_equal(seen_masks(layer, x), fd.dropout_mask(x.shape, p=0.5, rng=fd.Philox(11, 6 ^ INPUT_STREAM)))


def test_dropout_per_step_is_the_rule_between_the_layers():
    """PyTorch's: fd.Dropout between two plain layers, or the second layer's own dropout drawn at each step."""
    first = fd.LSTM(K, 40, return_sequences=True, seed=1, stream=0)
    second = fd.LSTM(40, H, input_p=0.5, time_constant=False, return_sequences=True, seed=1, stream=2)
    between = fd.Dropout(0.5, seed=1, stream=2 ^ INPUT_STREAM)
    x = first.forward(case().x)
    want = second.forward(x)
    second.input_p = 0.0
    same(second.forward(between.forward(x)), want)


def test_rates_of_a_live_layer():
    layer, a = fd.LSTM(K, H, seed=1, stream=1), case()
    plain = layer.forward(a.x, train=False)
    for input_p, recurrent_p in [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (1.0, 0.1), (np.float32(0.25), np.float32(0.25))]:
        layer.input_p, layer.recurrent_p = input_p, recurrent_p
        rates = {"input_p": input_p, "recurrent_p": recurrent_p, "rng": layer.mask_key.rng}
        same(layer(a.x), fd.lstm_forward(a.x, *weights(layer), return_sequences=False, **rates)[0])
        same(layer(a.x, False), plain)


def test_a_shard_draws_its_part_of_the_batch():
    whole = fd.LSTM(K, H, input_p=0.3, recurrent_p=0.3, return_sequences=True, seed=4, stream=2)
    part = copy.deepcopy(whole)
    part.mask_key.rng = part.mask_key.rng.at(row0=2)
    x, dy = case().x, case().dy
    for _ in range(2):  # the second call too: the step goes on, the origin stays
        same(part.forward(x[2:]), whole.forward(x)[2:])
        same(part.backward(dy[2:]), whole.backward(dy)[2:])


def test_the_last_state_goes_on_where_it_stopped():
    layer, a = fd.LSTM(K, H, return_sequences=True, seed=1), case()
    want = layer.forward(a.x)
    first = layer.forward(a.x[:, :2])
    same(first, want[:, :2])
    same(layer.forward(a.x[:, 2:], initial_state=layer.last_state), want[:, 2:])


def test_initial_weights_are_those_of_keras():
    layer = fd.LSTM(30, 50, seed=5, forget_bias=1.5)
    weight_ih, weight_hh, bias = weights(layer)
    limit = math.sqrt(6 / (30 + 200))
    assert np.abs(weight_ih).max() <= limit
    assert abs(weight_ih.std() - limit / math.sqrt(3)) < 4 * limit / math.sqrt(6000)  # four sigma of a std
    assert np.allclose(weight_hh.T @ weight_hh, np.eye(50), atol=50 * np.finfo("f4").eps)
    assert np.array_equal(bias, np.repeat(np.float32([0, 1.5, 0, 0]), 50))
    same(fd.LSTM(30, 50, seed=5).params["weight_hh"], weight_hh)
    assert (fd.LSTM(30, 50, seed=6).params["weight_hh"] != weight_hh).any()
    assert [p.name for p in layer.parameters()] == ["weight_ih", "weight_hh", "bias"]
    assert fd.LSTM(0, 0, seed=1).forward(np.ones((2, 3, 0), np.float32)).shape == (2, 0)


def stacked(seed=9):
    """Row by row: LSTM(128), Dropout(.4), LSTM(64, .25, .25), Dropout(.4), LSTM(32, .25, .25), classes; smaller."""
    rates = {"input_p": 0.25, "recurrent_p": 0.25}
    return fd.Sequential(
        fd.LSTM(K, 16, return_sequences=True),
        fd.Dropout(0.4),
        fd.LSTM(16, 12, return_sequences=True, **rates),
        fd.Dropout(0.4),
        fd.LSTM(12, 8, **rates),
        fd.Linear(8, 3),
        seed=seed,
    )


def test_a_stacked_network_learns_and_is_reproducible():
    """Sequences whose last step names the class; the same losses in a twin network, bit for bit."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60)
    x = generator.standard_normal((60, T, K)).astype(np.float32) * 0.1
    x[np.arange(60), 1, labels] += 2
    losses = []
    for net in (stacked(), stacked()):
        optimizer, history = fd.training.Adam(net.parameters(), lr=0.02), []
        for _ in range(60):
            loss, gradient = fd.softmax_cross_entropy(net.forward(x), labels)
            net.backward(gradient, input_grad=False)
            optimizer.step()
            history.append(loss)
        losses.append(history)
        assert (net.forward(x, train=False).argmax(1) == labels).mean() > 0.9
    assert losses[0] == losses[1]
    assert net[2].mask_key.rng.stream != net[4].mask_key.rng.stream


def test_copies_and_pickles_go_on_alike():
    layer, x = fd.LSTM(K, H, input_p=0.3, recurrent_p=0.3, seed=1, stream=3), case().x
    layer.forward(x)
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    want = layer.forward(x)
    for twin in twins:
        same(twin.forward(x), want)


def test_repr_names_what_is_set():
    layer = fd.LSTM(3, 4, input_p=0.1, recurrent_p=0.2, return_sequences=True)
    assert repr(layer) == "LSTM(3, 4, input_p=0.1, recurrent_p=0.2, return_sequences=True)"
    assert repr(fd.LSTM(3, 4)) == "LSTM(3, 4)"


# --- layouts


def test_layouts_come_back_exactly():
    layer, other = fd.LSTM(K, H, seed=1), fd.LSTM(K, H, seed=2)
    for save, load in [(layer.to_pytorch, other.load_pytorch), (layer.to_keras, other.load_keras)]:
        for name in other.params:
            other.params[name][...] = np.nan
        load(save())
        for name, want in layer.params.items():
            same(other.params[name], want)
            assert not np.shares_memory(other.params[name], want)


def test_layouts_are_those_of_the_libraries():
    layer = fd.LSTM(K, H, seed=1)
    kernel, recurrent, bias = layer.to_keras()
    same(kernel, np.ascontiguousarray(layer.params["weight_ih"].T))
    same(recurrent, np.ascontiguousarray(layer.params["weight_hh"].T))
    same(bias, layer.params["bias"])
    state = layer.to_pytorch(layer=1)
    assert list(state) == ["weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"]
    assert not state["bias_hh_l1"].any()
    state["bias_hh_l1"] += 0.5
    layer.load_pytorch(state, layer=1)
    same(layer.params["bias"], bias + np.float32(0.5))
    layer.load_pytorch({"weight_ih_l0": state["weight_ih_l1"], "weight_hh_l0": state["weight_hh_l1"]})
    assert not layer.params["bias"].any()


def test_a_refused_load_changes_nothing():
    layer = fd.LSTM(K, H, seed=1)
    want = copy.deepcopy(layer.params)
    state, keras = layer.to_pytorch(), layer.to_keras()
    zeros = {name: value * 0 for name, value in state.items()}
    wrong = [
        (layer.load_pytorch, zeros | {"bias_hh_l0": np.zeros(H, "f4")}, ValueError, r"bias_hh_l0 must be \[28\]"),
        (layer.load_pytorch, zeros | {"weight_hh_l0": np.zeros((4 * H, H))}, TypeError, "weight_hh_l0 must be float32"),
        (layer.load_pytorch, {"weight_ih_l0": zeros["weight_ih_l0"]}, ValueError, "state must have weight_ih_l0"),
        (layer.load_pytorch, zeros | {"weight_ih_l0_reverse": 0}, ValueError, "one direction .*; got weight_ih_l0_rev"),
        (layer.load_pytorch, zeros | {"weight_hr_l0": 0}, ValueError, "without a projection; got weight_hr_l0"),
        (layer.load_pytorch, None, TypeError, "state must be a mapping of names to arrays; got NoneType"),
        (layer.load_pytorch, fd.LSTM(K, H), TypeError, "state must be a mapping of names to arrays; got LSTM"),
        (layer.load_keras, [k * 0 for k in keras[:2]], ValueError, "weights must be a list .*; got 2 of them"),
        (layer.load_keras, [keras[0].T, *keras[1:]], ValueError, r"kernel must be \[6, 28\]"),
        (layer.load_keras, None, ValueError, "weights must be a list .*; got NoneType"),
    ]
    for load, value, error, message in wrong:
        with pytest.raises(error, match=message):
            load(value)
    for name in want:
        same(layer.params[name], want[name])


def test_names_of_the_results():
    assert NAMES[3:] == fd.LSTMGradients._fields
