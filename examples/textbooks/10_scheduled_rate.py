"""A scheduled dropout rate: every `dropout_interval` training steps it falls by 0.1, not below 0.1.

    p = max(0.5 - 0.1 * (step // dropout_interval), 0.1)        step 0, 1, 2, ...
    h1 = dropout(relu(x w1ᵀ + b1), p)       x [M, 784]   w1 [256, 784]     one fused call a layer
    h2 = dropout(relu(h1 w2ᵀ + b2), p)      h1 [M, 256]  w2 [256, 256]
    logits = h2 w3ᵀ + b3                    h2 [M, 256]  w3 [10, 256]      logits [M, 10]

The training loop is written out. One line of it sets the rate of the layers. It costs nothing: no mask is stored.
Loss and accuracy are recorded at every step: on its batch with dropout, and on 2000 test images without dropout.

Run: python examples/textbooks/10_scheduled_rate.py [--data DIR] [--steps 600] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import DatasetError, load

DROPOUT_INTERVAL, BATCH, TEST_IMAGES = 100, 256, 2000


def accuracy(logits, y):
    return np.mean(logits.argmax(axis=1) == y)


def main(data, steps, picture):
    net = fd.Sequential(
        fd.Linear(data.x_train.shape[1], 256, activation="relu", p=0.5),
        fd.Linear(256, 256, activation="relu", p=0.5),
        fd.Linear(256, 10),
        seed=0,
    )
    sgd = fd.training.SGD(net.parameters(), lr=0.1)
    schedule = fd.training.StepSchedule(0.5, DROPOUT_INTERVAL, drop=0.1, lowest=0.1)
    generator, history = np.random.default_rng(0), fd.training.History(unit="step")
    x_test, y_test = data.x_test[:TEST_IMAGES], data.y_test[:TEST_IMAGES]

    for step in range(steps):
        rate = schedule.apply(net, step)
        rows = generator.integers(len(data.x_train), size=BATCH)
        logits = net.forward(data.x_train[rows], train=True)
        loss, dlogits = fd.softmax_cross_entropy(logits, data.y_train[rows])
        net.backward(dlogits, input_grad=False)
        sgd.step()
        test_logits = net.forward(x_test, train=False)
        history.record({"train loss": loss, "test loss": fd.softmax_cross_entropy(test_logits, y_test)[0]})
        history.record({"train accuracy": accuracy(logits, data.y_train[rows])})
        history.record({"test accuracy": accuracy(test_logits, y_test), "dropout rate": rate})
        if (step + 1) % DROPOUT_INTERVAL == 0 or step + 1 == steps:
            print(f"step {step + 1:4}  " + "  ".join(f"{name} {curve[-1]:.3f}" for name, curve in history.items()))

    assert [layer.p for layer in net] == [rate, rate, 0.0], "the output layer has no dropout"
    falls = -np.diff(history["dropout rate"])
    assert np.allclose(falls[falls > 0], 0.1)
    assert min(history["dropout rate"]) >= 0.1
    history.plot(picture, title=f"{data.name}: a dropout rate that falls", mark_every=DROPOUT_INTERVAL)
    if data.name == "Fashion-MNIST" and steps >= 600:
        assert rate == 0.1
        assert history["test accuracy"][-1] > 0.8


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"argument --steps: must be 1 or more; got {options.steps}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.steps, picture=options.out / "10_scheduled_rate.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
