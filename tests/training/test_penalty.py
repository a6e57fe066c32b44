"""L1 and L2: the optimizers add the gradient of fd.training.penalty, also together with dropout."""

import math

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from refusals import assert_refused, name_rows

PENALTIES = [(0.0, 0.0), (0.03, 0.0), (0.0, 0.05), (0.03, 0.05)]
penalties = pytest.mark.parametrize(("l1", "l2"), PENALTIES, ids=["none", "l1", "l2", "both"])
X, LABELS = np.random.default_rng(0).standard_normal((9, 4)), np.arange(9) % 3


def build(dtype="float64"):
    """Layers that differ in where and how they drop, one nested, one without bias."""
    return fd.Sequential(
        fd.Linear(4, 6, activation="tanh", p=0.3, input_p=0.1, dtype=dtype),
        fd.Sequential(fd.Dropout(0.2), fd.Linear(6, 5, bias=False, p=0.2, granularity="unit", dtype=dtype)),
        fd.Linear(5, 3, dtype=dtype),
        seed=1,
    )


@penalties
def test_its_value(l1, l2):
    net = build("float32")
    weights = [p.value.astype(np.float64) for p in net.parameters() if p.name.endswith("weight")]
    assert len(weights) == 3
    for p in net.parameters():
        if p.name.endswith("bias"):
            p.value[...] = np.nan  # not looked at
    want = math.fsum(l1 * abs(w) + l2 / 2 * w * w for a in weights for w in a.ravel())
    for of in (net, net.parameters(), iter(net.parameters())):
        assert fd.training.penalty(of, l1=l1, l2=l2) == pytest.approx(want, rel=1e-14)  # sums of 69 float64 numbers
    assert fd.training.SGD(net.parameters(), lr=1, l1=l1, l2=l2).penalty() == fd.training.penalty(net, l1=l1, l2=l2)
    layer = net[0]
    assert fd.training.penalty(layer, l2=2.0) == pytest.approx(
        np.square(layer.params["weight"].astype(float)).sum(), rel=1e-14
    )


@penalties
def test_a_step_descends_loss_under_dropout_plus_penalty(l1, l2):
    """The objective against finite differences: with lr = 1 plain SGD moves each parameter by its derivative."""
    net = build()
    keys = [leaf.mask_key for leaf in net.leaves() if hasattr(leaf, "mask_key")]
    rngs = [key.rng for key in keys]

    def loss_and_gradient():
        for key, rng in zip(keys, rngs, strict=True):
            key.rng = rng  # one mask in every call
        return fd.softmax_cross_entropy(net(X), LABELS)

    net.backward(loss_and_gradient()[1])
    start = [p.value.copy() for p in net.parameters()]
    fd.training.SGD(net.parameters(), lr=1.0, l1=l1, l2=l2).step()
    moved = [before - p.value for before, p in zip(start, net.parameters(), strict=True)]
    for before, p in zip(start, net.parameters(), strict=True):
        p.value[...] = before
    for p, by in zip(net.parameters(), moved, strict=True):
        assert p.value.ndim < 2 or np.abs(p.value).min() > 2e-4  # the differences must not cross the corner of |w|
        objective = lambda: loss_and_gradient()[0] + fd.training.penalty(net, l1=l1, l2=l2)  # noqa: E731
        assert_gradient(objective, p.value, by, operations=4 * sum(a.size for a in start), name=p.name)


def test_a_weight_of_zero_stays_under_l1():
    layer = fd.Linear(2, 2, bias=False, init=0.0)
    fd.training.SGD(layer.parameters(), lr=1.0, l1=0.5).step()
    assert not layer.params["weight"].any()


def test_bfloat16_is_summed_in_float64():
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    layer = fd.Linear(300, 300, dtype="bfloat16", seed=1)
    assert fd.training.penalty(layer, l1=1.0) == np.abs(layer.params["weight"].astype(np.float64)).sum()


BAD = [
    ("l1", -0.1, ValueError, ">= 0", "-0.1"),
    ("l2", math.nan, ValueError, ">= 0", "nan"),
    ("l2", math.inf, ValueError, ">= 0", "inf"),
    ("l1", True, TypeError, ">= 0", "True"),
    ("l2", "1", TypeError, ">= 0", "'1'"),
    ("net", 3, TypeError, "net.parameters()", "int"),
    ("net", [np.ones((2, 2))], TypeError, "fusedrop.Parameter", "ndarray at [0]"),
    ("net", 2 * build()[0].parameters(), ValueError, "each once", "weight twice"),
]


@pytest.mark.parametrize("row", BAD, ids=name_rows(BAD))
def test_what_is_refused(row):
    argument, value, error, wanted, got = row
    assert_refused(fd.training.penalty, {"net": build(), argument: value}, error, argument, wanted, got)
