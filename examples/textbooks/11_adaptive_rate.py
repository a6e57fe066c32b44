"""An adaptive dropout rate: it rises while the gap between training and validation accuracy grows, and falls with it.

    gap = train accuracy - validation accuracy, both with dropout off, after each epoch
    gap wider than at the last change, by more than 0.02:       p = min(p + 0.1, 0.8)
    gap narrower than at the last change, by more than 0.02:    p = max(p - 0.1, 0)

    h1 = dropout(relu(x w1ᵀ + b1), p)       x [M, 784]   w1 [256, 784]     one fused call a layer
    h2 = dropout(relu(h1 w2ᵀ + b2), p)      h1 [M, 256]  w2 [256, 256]
    logits = h2 w3ᵀ + b3                    h2 [M, 256]  w3 [10, 256]      logits [M, 10]

Trained on 2000 images only, so that there is a gap. The same network is also trained at a fixed rate of 0.1.

Run: python examples/textbooks/11_adaptive_rate.py [--data DIR] [--epochs 60] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
from fusedrop.cli.datasets import DatasetError, load

IMAGES, START = 2000, 0.1


def record_gap(state):
    """A callback is a plain function of the state of training, called after each epoch."""
    history = state.history
    history.record({"gap": history["train accuracy"][-1] - history["validation accuracy"][-1]})


def train(data, epochs, callbacks):
    hidden = [fd.Linear(k, 256, activation="relu", p=START) for k in (data.x_train.shape[1], 256)]
    net = fd.Sequential(*hidden, fd.Linear(256, 10), seed=0)
    sgd = fd.training.SGD(net.parameters(), lr=0.05, momentum=0.9)
    trainer = fd.training.Trainer(net, sgd, callbacks=[record_gap, *callbacks])
    x, y = data.x_train[: 2 * IMAGES], data.y_train[: 2 * IMAGES]
    return trainer.fit(x, y, epochs=epochs, batch_size=100, validation=0.5, train_measured="after")


def main(data, epochs, picture):
    schedule = fd.training.AdaptiveSchedule(START, change=0.1, tolerance=0.02, lowest=0.0, highest=0.8)
    adaptive, fixed = train(data, epochs, [schedule]), train(data, epochs, [])
    for name, history in (("adaptive", adaptive), ("fixed", fixed)):
        if history.stopped:
            sys.exit(history.stopped)  # "Ctrl-C"
        print(f"{name:8}  " + ", ".join(f"{key} {values[-1]:.3f}" for key, values in history.items()))

    for epoch, rate in enumerate(adaptive["dropout rate"]):  # the schedule depends on earlier epochs only
        assert rate == schedule(adaptive["train accuracy"][:epoch], adaptive["validation accuracy"][:epoch])
        assert 0 <= rate <= 0.8
    curves = fd.training.History(adaptive | {"gap at a fixed rate": fixed["gap"]})
    panels = {
        "accuracy, adaptive rate": ["train accuracy", "validation accuracy"],
        "gap: train - validation accuracy": ["gap", "gap at a fixed rate"],
        "dropout rate": ["dropout rate"],
    }
    curves.plot(picture, panels=panels, title=f"{data.name}: the dropout rate follows the gap")
    if data.name == "Fashion-MNIST" and epochs >= 60:
        assert max(adaptive["dropout rate"]) > START
        assert adaptive["gap"][-1] < fixed["gap"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.epochs, picture=options.out / "11_adaptive_rate.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
