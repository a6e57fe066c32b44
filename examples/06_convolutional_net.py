"""A convolutional net on images of 32 x 32 x 3: seven convolutions, four poolings, dropout 0.5 at two places.

    conv 5x5, 64   pool    conv 5x5, 64   pool    conv 5x5, 128 twice   pool   ->  [M, 4, 4, 128]
    dropout 0.5    conv 4x4, 256 twice    pool                                 ->  [M, 2, 2, 256]
    dropout 0.5    conv 2x2, 512          conv 1x1, 10                         ->  logits [M, 10]

Each convolution is one fused call, dropout(relu(conv(x, w) + b)), weights normal with std sqrt(2 / fan-in); pools are 3x3
with stride 2. Sizes: padding 2 keeps 5x5 convolutions' images; pools round up (ceil_mode), so 32, 16, 8, 4; the 4x4
convolutions have padding 2, then 1: 4, 5, 4; the last pool leaves 2, the 2x2 convolution 1. The dropout is the next
convolution's input_dropout, which costs nothing of its own. Fashion-MNIST's 28 x 28 grey images get a margin of 2 zeros,
and as their three channels the image itself and its differences from the pixel to the left and above.

Trained twice: one mask an element, and one an image and channel. Adam, lr 0.0005, batches of 100.

Run: python examples/06_convolutional_net.py [--data DIR] [--steps 150] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.datasets import DatasetError, load


def build(granularity):
    shared = {"activation": "relu", "layout": "NHWC", "granularity": granularity}
    pool = {"kernel_size": 3, "stride": 2, "ceil_mode": True, "layout": "NHWC"}
    return fd.Sequential(
        fd.Conv2d(3, 64, 5, padding=2, **shared),
        fd.MaxPool2d(**pool),
        fd.Conv2d(64, 64, 5, padding=2, **shared),
        fd.MaxPool2d(**pool),
        fd.Conv2d(64, 128, 5, padding=2, **shared),
        fd.Conv2d(128, 128, 5, padding=2, **shared),
        fd.MaxPool2d(**pool),
        fd.Conv2d(128, 256, 4, padding=2, input_dropout=0.5, **shared),
        fd.Conv2d(256, 256, 4, padding=1, **shared),
        fd.MaxPool2d(**pool),
        fd.Conv2d(256, 512, 2, input_dropout=0.5, **shared),
        fd.Conv2d(512, 10, 1, init="he", layout="NHWC"),
        fd.Flatten(),
        seed=0,
    )


def color(images):
    """[n, 784] grey to [n, 32, 32, 3]."""
    grey = np.pad(images.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    left, up = (np.diff(grey, axis=axis, prepend=np.float32(0)) for axis in (2, 1))
    return np.stack([grey, left, up], axis=3)


def main(data, steps, picture):
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[: 100 * steps]  # each image once
    x, x_test, y_test = color(data.x_train[chosen]), color(data.x_test[:2000]), data.y_test[:2000]
    curves = fd.History(unit="step")
    for granularity in ("element", "channel"):
        net = build(granularity)
        trainer = fd.Trainer(net, fd.Adam(net.parameters(), lr=0.0005))
        history = trainer.fit(x, data.y_train[chosen], epochs=1, batch_size=100, record_steps=True)
        if history.stopped:
            sys.exit("stopped before the end")  # by Ctrl-C
        for name, values in history.steps.items():
            curves[f"dropout per {granularity}: {name}"] = np.convolve(values, np.ones(10) / 10, "valid").tolist()
        test = trainer.evaluate(x_test, y_test)
        print(f"dropout per {granularity}: test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}")
        if data.name == "Fashion-MNIST" and steps >= 150:
            assert test["accuracy"] > 0.75
    curves.plot(picture, title=f"{data.name} at 32 x 32 x 3, means over 10 steps", mark_every=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.steps, picture=options.out / "06_convolutional_net.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
