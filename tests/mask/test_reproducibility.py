"""Streams, seeds and initial weights: different by default, reproducible end to end with a seed."""

import copy
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
import pytest
import training

ONES = np.ones((64, 64), np.float32)


def mask(layer):
    return layer(ONES) != 0


def streams(net):
    return [leaf.mask_key.rng.stream for leaf in net.leaves() if hasattr(leaf, "mask_key")]


def seeds(net):
    return [leaf.mask_key.rng.seed for leaf in net.leaves() if hasattr(leaf, "mask_key")]


@pytest.mark.parametrize("seed", [None, 3])
def test_layers_on_their_own_differ_by_default(seed):
    """Also with one seed: two layers must not share their masks by accident."""
    layers = [fd.Dropout(0.5, seed=seed) for _ in range(5)]
    assert len({layer.mask_key.rng.stream for layer in layers}) == 5
    assert len({mask(layer).tobytes() for layer in layers}) == 5


def test_unseeded_layers_take_their_seeds_from_the_system():
    layers = [fd.Linear(8, 8) for _ in range(5)]
    assert len({layer.mask_key.rng.seed for layer in layers}) == 5
    assert len({layer.params["weight"].tobytes() for layer in layers}) == 5


def test_seed_and_stream_fix_a_layer_on_its_own():
    one, other = (fd.Linear(64, 64, p=0.5, input_p=0.5, seed=7, stream=2) for _ in range(2))
    for _ in range(3):
        assert np.array_equal(one(ONES), other(ONES))
    repeated = fd.Linear(64, 64, seed=7)
    assert np.array_equal(repeated.params["weight"], fd.Linear(64, 64, seed=7).params["weight"])
    assert (repeated.params["weight"] != fd.Linear(64, 64, seed=8).params["weight"]).all()


def test_a_network_numbers_its_layers_by_position():
    """Depth first, layers without masks are not counted; a given stream stays, and no other layer gets it."""
    net = fd.Sequential(
        fd.Linear(4, 4),
        fd.ReLU(),
        fd.Sequential(fd.Dropout(0.5), fd.Sequential(fd.Linear(4, 4, stream=1)), fd.Dropout(0.5, stream=9)),
        fd.Flatten(),
        fd.Dropout(0.5),
        fd.Linear(4, 4),
        seed=2,
    )
    assert streams(net) == [0, 2, 1, 9, 3, 4]
    assert seeds(net) == [2] * 6
    assert streams(fd.Sequential(*[fd.Dropout(0.5) for _ in range(4)])) == [0, 1, 2, 3]


def test_equal_layers_of_a_network_differ():
    net = fd.Sequential(*[fd.Linear(64, 64, p=0.5) for _ in range(4)], seed=1)
    assert len({p.value.tobytes() for p in net.parameters() if p.name.endswith("weight")}) == 4
    rates = [fd.dropout_mask((64, 64), p=0.5, rng=layer.mask_key.rng).tobytes() for layer in net]
    assert len(set(rates)) == 4


def test_a_layers_own_seed_wins_over_the_networks():
    net = fd.Sequential(fd.Linear(4, 4, seed=5), fd.Linear(4, 4), fd.Dropout(0.5, seed=6), seed=1)
    assert seeds(net) == [5, 1, 6]


def test_a_network_without_seed_keeps_its_layers_seeds():
    layers = [fd.Linear(4, 4), fd.Dropout(0.5, seed=3)]
    before = [layer.mask_key.rng.seed for layer in layers]
    assert seeds(fd.Sequential(*layers)) == before


def test_weights_in_use_stay_when_a_network_takes_the_layer():
    layer = fd.Linear(5, 5, p=0.5)
    weight, values = layer.params["weight"], layer.params["weight"].copy()
    net = fd.Sequential(layer, seed=9)
    assert net.params["0.weight"] is weight
    assert np.array_equal(weight, values)
    assert layer.mask_key.rng == fd.Philox(9, stream=0, step=0)


def test_the_order_of_construction_does_not_matter():
    first, second = fd.Linear(6, 6), fd.Linear(6, 6)
    net = fd.Sequential(second, first, seed=1)
    plain = fd.Sequential(fd.Linear(6, 6), fd.Linear(6, 6), seed=1)
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        assert np.array_equal(a.value, b.value)


def test_training_repeats_to_the_bit():
    nets = [training.build() for _ in range(2)]
    losses = [training.train(net) for net in nets]
    assert losses[0] == losses[1]
    assert training.fingerprint(nets[0]) == training.fingerprint(nets[1])
    assert losses[0][-1] < losses[0][0]
    another = training.build(seed=6)
    assert training.train(another) != losses[0]


def test_training_repeats_in_another_process():
    net = training.build()
    training.train(net)
    command = [sys.executable, "-W", "error", training.__file__]
    run = subprocess.run(
        command,
        env=os.environ | {"FUSEDROP_ISA": fd.config.get_isa()},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == training.fingerprint(net)


def test_test_time_calls_do_not_change_training():
    plain, watched = training.build(), training.build()
    x = np.ones((64, 3, 4), np.float32)
    for _ in range(3):
        training.train(plain, steps=1)
        watched(x, False)
        training.train(watched, steps=1)
    assert training.fingerprint(plain) == training.fingerprint(watched)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("steps", [0, 3], ids=["fresh", "trained"])
def test_a_copied_network_goes_on_as_the_original_would(copied, steps):
    """Early stopping copies the best network; its copy shares no arrays and draws the same masks."""
    net = training.build()
    training.train(net, steps)
    twin = copied(net)
    assert training.train(twin, 3) == training.train(net, 3)
    assert training.fingerprint(twin) == training.fingerprint(net)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert not np.shares_memory(a.value, b.value)


STANDARD_DEVIATIONS = {
    (None, "identity"): 1 / math.sqrt(300),
    (None, "tanh"): 1 / math.sqrt(300),
    (None, "relu"): math.sqrt(2 / 300),
    (None, "gelu"): math.sqrt(2 / 300),
    (None, "silu"): math.sqrt(2 / 300),
    ("he", "identity"): math.sqrt(2 / 300),
    ("xavier", "relu"): math.sqrt(2 / 800),
    (0.01, "relu"): 0.01,
    (0.0, "relu"): 0.0,
}


@pytest.mark.parametrize(("init", "activation"), STANDARD_DEVIATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_weights(init, activation, dtype):
    """Normal, mean 0, the stated deviation: 150 000 samples, each estimate within five deviations of its own."""
    layer = fd.Linear(300, 500, activation=activation, init=init, dtype=dtype, seed=1)
    weight, std = layer.params["weight"], STANDARD_DEVIATIONS[init, activation]
    assert weight.shape == (500, 300)
    assert weight.dtype == layer.params["bias"].dtype == dtype
    assert (layer.params["bias"] == 0).all()
    assert abs(weight.mean()) <= 5 * std / math.sqrt(weight.size)
    assert abs(weight.std() - std) <= 5 * std / math.sqrt(2 * weight.size)
    assert abs((np.abs(weight) < std).mean() - 0.682689) <= 5 * math.sqrt(0.25 / weight.size) or std == 0
