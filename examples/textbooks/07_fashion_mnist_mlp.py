"""An MLP on Fashion-MNIST: 784 -> 256 -> 256 -> 10, ReLU, dropout 0.2 then 0.5.

    h1 = dropout(relu(x w1ᵀ + b1), 0.2)     x [M, 784]    w1 [256, 784]    one fused call a layer
    h2 = dropout(relu(h1 w2ᵀ + b2), 0.5)    h1 [M, 256]   w2 [256, 256]
    logits = h2 w3ᵀ + b3                    h2 [M, 256]   w3 [10, 256]     logits [M, 10]

Weights normal with std 0.01, biases 0; cross-entropy, SGD with lr 0.5, batches of M = 256, 10 epochs.
The picture is rewritten after each epoch, so that a viewer that reloads it shows the progress.

Run: python examples/textbooks/07_fashion_mnist_mlp.py [--data DIR] [--epochs 10] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import DatasetError, load
from matplotlib.figure import Figure  # without pyplot: draws into a file, opens no window


def train(data, epochs, picture):
    net = fd.Sequential(
        fd.Linear(data.x_train.shape[1], 256, activation="relu", p=0.2, init=0.01),
        fd.Linear(256, 256, activation="relu", p=0.5, init=0.01),
        fd.Linear(256, 10, init=0.01),
        seed=0,
    )
    sgd = fd.training.SGD(net.parameters(), lr=0.5)
    n, shuffle = len(data.x_train), np.random.default_rng(0)
    history = {"train loss": [], "train accuracy": [], "test accuracy": []}

    for epoch in range(1, epochs + 1):
        loss_sum = correct = 0
        # 235 batches of 255 or 256 images: a last batch of 96 would make a noisy step before each test.
        for rows in np.array_split(shuffle.permutation(n), -(-n // 256)):
            logits = net.forward(data.x_train[rows], train=True)
            loss, dlogits = fd.softmax_cross_entropy(logits, data.y_train[rows])
            net.backward(dlogits, input_grad=False)  # the gradient of the images is not needed
            sgd.step()
            loss_sum += loss * len(rows)
            correct += np.count_nonzero(logits.argmax(axis=1) == data.y_train[rows])
        test_logits = net.forward(data.x_test, train=False)  # no dropout at test time
        history["train loss"].append(loss_sum / n)
        history["train accuracy"].append(correct / n)
        history["test accuracy"].append(np.mean(test_logits.argmax(axis=1) == data.y_test))
        print(f"epoch {epoch:2}  " + "  ".join(f"{name} {curve[-1]:.4f}" for name, curve in history.items()))
        draw(history, f"{data.name}: dropout 0.2 and 0.5", picture)
    if data.name == "Fashion-MNIST" and epochs >= 10:  # what the text asserts after its 10 epochs
        assert history["train loss"][-1] < 0.5
        assert 0.7 < history["train accuracy"][-1] < 1
        assert 0.7 < history["test accuracy"][-1] < 1


def draw(history, title, picture):
    axes = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    for (name, curve), style in zip(history.items(), ("C0-o", "C1--s", "C2-.^"), strict=True):
        axes.plot(range(1, len(curve) + 1), curve, style, label=name)
    axes.set(title=title, xlabel="epoch", ylabel="loss; accuracy", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        train(data, options.epochs, picture=options.out / "07_fashion_mnist_mlp.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
