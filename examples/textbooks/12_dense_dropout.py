"""Dense(64) -> Dropout(0.5) -> Dense(64) -> Dropout(0.5) -> Dense(10) on 100 inputs: ReLU twice, softmax at the end.

    h1 = dropout(relu(x w1ᵀ + b1), 0.5)     x [M, 100]   w1 [64, 100]   h1 [M, 64]     one fused call
    h2 = dropout(relu(h1 w2ᵀ + b2), 0.5)                 w2 [64, 64]    h2 [M, 64]     one fused call
    y = softmax(h2 w3ᵀ + b3)                             w3 [10, 64]    y [M, 10]      softmax inside the loss

Real data with 100 inputs: Fashion-MNIST's images, averaged down from 28 x 28 to 10 x 10 pixels. The training set has
only 2000 images, so that the network can overfit; without dropout, from the same weights, it does.

Run: python examples/textbooks/12_dense_dropout.py [--data DIR] [--epochs 100] [--out DIR]
"""

import argparse
import math
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import DatasetError, load

IMAGES = 2000


def inputs(images):
    """[n, side * side] to [n, 100]: each of 10 x 10 pixels is a mean; then mean 0 and std 1 over all."""
    side = math.isqrt(images.shape[1])
    means = np.zeros((10, side), np.float32)
    for i in range(10):
        covered = slice(i * side // 10, -(-(i + 1) * side // 10))
        means[i, covered] = 1 / (covered.stop - covered.start)
    x = (means @ images.reshape(-1, side, side) @ means.T).reshape(-1, 100)
    return (x - x.mean()) / x.std()


def build(rate):
    return fd.Sequential(
        fd.Linear(100, 64, activation="relu", p=rate),
        fd.Linear(64, 64, activation="relu", p=rate),
        fd.Linear(64, 10),
        seed=0,  # the same weights for every rate
    )


def main(data, epochs, picture):
    x, y, test = inputs(data.x_train)[:IMAGES], data.y_train[:IMAGES], (inputs(data.x_test), data.y_test)
    curves = fd.training.History()
    for rate in (0.0, 0.5):
        net = build(rate)
        trainer = fd.training.Trainer(net, fd.training.Adam(net.parameters(), lr=1e-3))
        history = trainer.fit(x, y, epochs=epochs, batch_size=32, validation=test)
        if history.stopped:
            sys.exit(history.stopped)  # "Ctrl-C"
        losses, accuracy = history["validation loss"], history["validation accuracy"]
        curves[f"test loss, dropout {rate}"], curves[f"test accuracy, dropout {rate}"] = losses, accuracy
        print(f"dropout {rate}: test loss {losses[-1]:.3f}, lowest {min(losses):.3f}; test accuracy {accuracy[-1]:.3f}")

    probabilities = np.exp(trainer.predict(test[0][:5]).astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # y = softmax(logits)
    shown = ", ".join(f"{row.argmax()} ({row.max():.2f})" for row in probabilities)
    print(f"the first five test images are of class {test[1][:5]}; predicted, with its probability: {shown}")
    curves.plot(picture, title=f"{data.name}, 10 x 10 pixels, {len(x)} images trained on", mark_every=10)
    if data.name == "Fashion-MNIST" and epochs >= 100:
        assert curves["test loss, dropout 0.5"][-1] < curves["test loss, dropout 0.0"][-1], "it must overfit less"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.epochs, picture=options.out / "12_dense_dropout.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
