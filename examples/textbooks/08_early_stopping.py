"""Early stopping: 784 -> 128 -> 64 -> 10, ReLU, dropout 0.2 twice, softmax, one-hot labels.

    h1 = dropout(relu(x w1ᵀ + b1), 0.2)     x [M, 784]   w1 [128, 784]   h1 [M, 128]    one fused call a layer
    h2 = dropout(relu(h1 w2ᵀ + b2), 0.2)                 w2 [64, 128]    h2 [M, 64]
    y = softmax(h2 w3ᵀ + b3)                             w3 [10, 64]     y [M, 10]      softmax inside the loss
    loss = -mean over rows of Σ_j t_j log y_j            t [M, 10] one-hot rows

SGD with batches of M = 64. A fifth of the training images is set aside for validation; training ends after 5 epochs
in a row without a lower validation loss, and the weights of the best epoch are restored. So they are after Ctrl-C.

Run: python examples/textbooks/08_early_stopping.py [--data DIR] [--epochs 60] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import DatasetError, load


def build(pixels):
    return fd.Sequential(
        fd.Linear(pixels, 128, activation="relu", p=0.2),
        fd.Linear(128, 64, activation="relu", p=0.2),
        fd.Linear(64, 10),
        seed=0,
    )


def main(data, epochs, picture):
    one_hot = np.eye(10, dtype=np.float32)
    net, stopping = build(data.x_train.shape[1]), fd.training.EarlyStopping(monitor="validation loss", patience=5)
    trainer = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.2))
    history = trainer.fit(
        data.x_train,
        one_hot[data.y_train],
        epochs=epochs,
        batch_size=64,
        validation=0.2,
        early_stopping=stopping,
    )
    if not stopping.best_epoch:  # Ctrl-C in the first epoch, or NaN after each
        sys.exit(f"no best epoch after {len(history.get('validation loss', []))}: {history.stopped or 'no number'}")
    losses, best = history["validation loss"], stopping.best_epoch
    print(f"{len(losses)} epochs, then: {history.stopped or 'no epoch was left'}")
    accuracy = history["validation accuracy"][best - 1]
    print(f"best epoch {best}: validation loss {stopping.best:.4f}, validation accuracy {accuracy:.4f}")
    test = trainer.evaluate(data.x_test, one_hot[data.y_test])
    print(f"test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}, with the weights of epoch {best}")

    history.plot(picture, title=f"{data.name}: stopped after epoch {len(losses)}, best epoch {best}")

    assert stopping.best == min(losses)
    _, held_out = fd.training.split_validation(data.x_train, one_hot[data.y_train], 0.2)  # the split that fit used
    assert trainer.evaluate(*held_out)["loss"] == stopping.best, "the best epoch's weights are back, bit for bit"
    if history.stopped == "early stopping":
        assert len(losses) == best + stopping.patience
    if data.name == "Fashion-MNIST" and history.stopped == "early stopping":
        assert test["accuracy"] > 0.87


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
        main(data, options.epochs, picture=options.out / "08_early_stopping.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
