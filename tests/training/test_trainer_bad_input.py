"""Wrong arguments of Trainer: one error that names the argument, before any step, and nothing is changed."""

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows
from training import fingerprint

N = 50
X, LABELS = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32), np.arange(N) % 3
ONE_HOT = np.eye(3)[LABELS]


def build():
    return fd.Sequential(fd.Linear(4, 16, activation="relu", p=0.3), fd.Linear(16, 3), seed=3)


def trainer():
    net = build()
    return fd.training.Trainer(net, fd.training.Adam(net.parameters(), lr=0.01))


GOOD = {"x": X, "y": LABELS, "epochs": 2, "batch_size": 8}
FIT = [
    ("x", X.tolist(), TypeError, "a NumPy array of float32", "list"),
    ("x", X.astype(int), TypeError, "a NumPy array of float32", "int64"),
    ("x", X[:0], ValueError, "n >= 1", "[0, 4]"),
    ("x", np.array(1, np.float32), ValueError, "n >= 1", "[]"),
    ("x", X.astype(np.float64), TypeError, "float32, the network's dtype", "float64"),
    ("y", LABELS[:-1], ValueError, f"n = {N} to match x", f"[{N - 1}]"),
    ("y", LABELS[:0], ValueError, "n >= 1", "[0]"),
    ("y", 3, ValueError, "n >= 1", "[]"),
    ("epochs", 0, ValueError, "an integer >= 1", "0"),
    ("epochs", 1.0, TypeError, "an integer >= 1", "1.0"),
    ("epochs", True, TypeError, "an integer >= 1", "True"),
    ("batch_size", 0, ValueError, "an integer >= 1", "0"),
    ("batch_size", "8", TypeError, "an integer >= 1", "'8'"),
    ("validation", 0.0, ValueError, "in (0, 1)", "0.0"),
    ("validation", 1, ValueError, "in (0, 1)", "1"),
    ("validation", True, TypeError, "in (0, 1)", "True"),
    ("validation", float("nan"), ValueError, "in (0, 1)", "nan"),
    ("validation", (X,), ValueError, "a pair", "1 parts"),
    ("validation", "0.2", TypeError, "a pair (x, y)", "str"),
    ("validation", X, TypeError, "a pair (x, y)", "ndarray"),
    ("validation", 0.001, ValueError, f"an example of {N}", "0.001"),
    ("shuffle", 1, TypeError, "True or False", "1"),
    ("shuffle_seed", -1, ValueError, "an integer >= 0", "-1"),
    ("shuffle_seed", None, TypeError, "an integer >= 0", "None"),
    ("train_measured", "later", ValueError, "'during' or 'after'", "'later'"),
    ("record_steps", 1, TypeError, "True or False", "1"),
    ("progress", None, TypeError, "True or False", "None"),
    ("early_stopping", 5, TypeError, "an EarlyStopping", "int"),
    ("early_stopping", fd.training.EarlyStopping, TypeError, "an EarlyStopping", "type"),
]
REFUSED = [(*row[:3], row[0], *row[3:]) for row in FIT]
REFUSED += [  # (argument, value, error, name in the message, wanted, got)
    ("x", X[:, :3], ValueError, "w", "[*, 3] to match x", "[16, 4]"),
    ("y", LABELS + 1, ValueError, "y", "in [0, 3)", "1 to 3"),
    ("y", LABELS.astype(float), TypeError, "y", "integers", "float64"),
    ("y", 2 * ONE_HOT, ValueError, "y", "sum to 1", "2."),
    ("y", np.eye(4)[LABELS], ValueError, "y", f"[M, N] = [{N}, 3]", f"[{N}, 4]"),
    ("validation", (X, LABELS[:3]), ValueError, "validation y", f"n = {N}", "[3]"),
    ("validation", (X[:, :3], LABELS), ValueError, "validation x", "[4] after n to match x", f"[{N}, 3]"),
    ("validation", (X, LABELS + 1), ValueError, "validation y", "in [0, 3)", "1 to 3"),
    ("validation", (X.astype(np.float64), LABELS), TypeError, "validation x", "the network's dtype", "float64"),
    ("early_stopping", fd.training.EarlyStopping(), ValueError, "monitor", "'train loss'", "'validation loss'"),
]


@pytest.mark.parametrize("row", REFUSED, ids=name_rows(REFUSED))
def test_fit_refuses_and_changes_nothing(row):
    argument, value, error, name, wanted, got = row
    refused = trainer()
    before, masks = fingerprint(refused.net), refused.net[0].mask_key.rng
    assert_refused(refused.fit, {**GOOD, argument: value}, error, name, wanted, got)
    assert fingerprint(refused.net) == before
    assert refused.net[0].mask_key.rng == masks
    assert refused.optimizer._steps == 0


NET = build()
SGD = fd.training.SGD(NET.parameters(), lr=0.1)
CONSTRUCTOR = [
    ("net", 3, TypeError, "a fusedrop layer", "int"),
    ("optimizer", None, TypeError, "step()", "NoneType"),
    ("optimizer", fd.training.SGD, TypeError, "step()", "type"),
    ("optimizer", fd.training.SGD(build().parameters(), lr=1), ValueError, "from net's parameters", "Parameter"),
    ("loss", None, TypeError, "a function", "NoneType"),
    ("accuracy", 1, TypeError, "True or False", "1"),
    ("callbacks", print, TypeError, "a list", "builtin"),
    ("callbacks", [3], TypeError, "functions", "int"),
    ("callbacks", [fd.training.EarlyStopping], TypeError, "functions", "the class EarlyStopping"),
]


@pytest.mark.parametrize("row", CONSTRUCTOR, ids=name_rows(CONSTRUCTOR))
def test_the_constructor_refuses(row):
    argument, value, error, wanted, got = row
    good = {"net": NET, "optimizer": SGD}
    name = "callbacks[0]" if isinstance(value, list) else argument
    if name == "callbacks[0]":
        with pytest.raises(error, match=rf"callbacks\[0\] must be .*{wanted}.*; got {got}"):
            fd.training.Trainer(**good, callbacks=value)
    else:
        assert_refused(fd.training.Trainer, {**good, argument: value}, error, name, wanted, got)


@pytest.mark.parametrize("y", [LABELS.astype(float), LABELS[:, None]], ids=["floats", "a column"])
def test_accuracy_needs_classes(y):
    own = fd.training.Trainer(NET, SGD, lambda outputs, y: (0.0, outputs))
    with pytest.raises(ValueError, match=r"y must be integer classes \[n\].*accuracy=False; got"):
        own.fit(X, y, epochs=1, batch_size=8)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_evaluate_and_predict_refuse_nothing_to_do(method):
    call = getattr(trainer(), method)
    labels = {"y": LABELS[:0]} if method == "evaluate" else {}
    assert_refused(call, {"x": X[:0], **labels}, ValueError, "x", "n >= 1", "[0, 4]")
    labels = {"y": LABELS} if labels else {}
    assert_refused(call, {"x": X, **labels, "batch_size": 0}, ValueError, "batch_size", ">= 1", "0")


SPLIT = [
    ("fraction", 0, ValueError, "in (0, 1)", "0"),
    ("fraction", 1.0, ValueError, "in (0, 1)", "1.0"),
    ("fraction", True, TypeError, "in (0, 1)", "True"),
    ("fraction", 0.995, ValueError, f"an example of {N}", f"0.995: {N} of them"),
    ("seed", -1, ValueError, "an integer >= 0", "-1"),
    ("x", X[:3], ValueError, "n = 3 to match x", f"[{N}]"),
]


@pytest.mark.parametrize("row", SPLIT, ids=name_rows(SPLIT))
def test_split_validation_refuses(row):
    argument, value, error, wanted, got = row
    name = "y" if argument == "x" else argument
    arguments = {"x": X, "y": LABELS, "fraction": 0.2, argument: value}
    assert_refused(fd.training.split_validation, arguments, error, name, wanted, got)


def squares(outputs, y):
    return float(np.mean((outputs - y) ** 2)), 2 * (outputs - y) / outputs.size


WIDE = np.zeros((1, 3))
LOSS = [  # (what a loss returns, error, got)
    (0.5, TypeError, "float"),
    (np.zeros((2, 3), np.float32), TypeError, "ndarray"),
    ((0.5,), TypeError, "1 values"),
    ((None, WIDE.astype(np.float32)), TypeError, "NoneType for the number"),
    ((np.zeros(1), WIDE.astype(np.float32)), TypeError, "an array [1] for the number"),
    ((0.5, None), TypeError, "NoneType for the array"),
    ((0.5, WIDE), TypeError, "an array [1, 3] of float64"),
    ((0.5, WIDE[0].astype(np.float32)), ValueError, "an array [3] of float32"),
]


@pytest.mark.parametrize("row", LOSS, ids=[row[-1] for row in LOSS])
def test_a_loss_must_return_a_number_and_a_gradient_of_the_outputs(row):
    returned, error, got = row
    net = build()
    own = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), lambda outputs, y: returned)
    before = fingerprint(net)
    assert_refused(own.fit, GOOD, error, "loss must return", "an array [1, 3] of float32", got)
    assert fingerprint(net) == before


def test_float64_targets_make_a_gradient_that_is_refused_before_any_step():
    net = build()
    own = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), squares, accuracy=False)
    with pytest.raises(TypeError, match=r"^loss must return .*of float32.*; got an array \[1, 3\] of float64$"):
        own.fit(X, ONE_HOT, epochs=1, batch_size=8)
    own.fit(X, ONE_HOT.astype(np.float32), epochs=1, batch_size=8, progress=False)


@pytest.mark.parametrize("number", [1, np.float32(0.5), np.array(0.5)], ids=repr)
def test_a_loss_may_be_any_real_number(number):
    own = fd.training.Trainer(NET, SGD, lambda outputs, y: (number, np.zeros_like(outputs)))
    history = own.fit(X, LABELS, epochs=1, batch_size=8, progress=False)
    assert history["train loss"] == [float(number)]


def test_a_monitor_is_a_name():
    with pytest.raises(TypeError, match=r"^monitor must be a str, .*; got int$"):
        fd.training.EarlyStopping(3, higher_is_better=True)
