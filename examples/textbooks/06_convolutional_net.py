"""A convolutional net on images of 32 x 32 x 3: eight convolutions, four poolings, dropout 0.5 at two places.

    conv 5x5, 64   pool    conv 5x5, 64   pool    conv 5x5, 128 twice   pool   ->  [M, 4, 4, 128]
    dropout 0.5    conv 4x4, 256 twice    pool                                 ->  [M, 2, 2, 256]
    dropout 0.5    conv 2x2, 512          conv 1x1, 10                         ->  logits [M, 10]

Each convolution is one fused call, relu(conv(dropout(x), w) + b), weights normal with std sqrt(2 / fan-in). Padding 2
keeps the sizes of the 5x5 convolutions; pools are 3x3 with stride 2 and round up (ceil_mode), so 32, 16, 8, 4; the 4x4
convolutions have padding 2, then 1: 4, 5, 4; the last pool leaves 2, the 2x2 convolution 1. Fashion-MNIST's 28 x 28
images get a margin of 2 zeros; their channels are the image and its differences from the pixels to the left and above.
Trained twice, once with dropout of elements, once of whole channels of an image: Adam, lr 0.0005, batches of M = 100.

Run: python examples/textbooks/06_convolutional_net.py [--data DIR] [--steps 300] [--out DIR]
"""

import argparse
import math
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import DatasetError, load


def build(granularity):
    def conv(c, n, size, padding=0, p=0.0):
        options = {"granularity": granularity, "layout": "NHWC", "activation": "relu"}
        return fd.Conv2d(c, n, size, padding=padding, input_p=p, **options)

    def pool():
        return fd.MaxPool2d(3, 2, ceil_mode=True, layout="NHWC")

    first = conv(3, 64, 5, 2), pool(), conv(64, 64, 5, 2), pool()
    second = conv(64, 128, 5, 2), conv(128, 128, 5, 2), pool()
    third = conv(128, 256, 4, 2, p=0.5), conv(256, 256, 4, 1), pool()
    last = conv(256, 512, 2, p=0.5), fd.Conv2d(512, 10, 1, init="he", layout="NHWC"), fd.Flatten()
    return fd.Sequential(*first, *second, *third, *last, seed=0)


def color(images):
    """Gray images [n, 784], or smaller or larger squares up to 32 x 32, as [n, 32, 32, 3]."""
    side = math.isqrt(images.shape[1])
    margin = (32 - side) // 2, (33 - side) // 2
    gray = np.pad(images.reshape(-1, side, side), ((0, 0), margin, margin))
    return np.stack([gray, *(np.diff(gray, axis=axis, prepend=np.float32(0)) for axis in (2, 1))], axis=3)


def main(data, steps, picture):
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[: 100 * steps]  # each image at most once
    x, x_test, y_test = color(data.x_train[chosen]), color(data.x_test[:2000]), data.y_test[:2000]
    curves, width = fd.training.History(unit="step"), min(10, len(x) // 100)
    for kind in ("element", "channel"):
        net = build(kind)
        trainer = fd.training.Trainer(net, fd.training.Adam(net.parameters(), lr=0.0005))
        history = trainer.fit(x, data.y_train[chosen], epochs=1, batch_size=100, record_steps=True)
        if history.stopped:
            sys.exit("stopped before the end")  # by Ctrl-C
        for name, values in history.steps.items():
            curves[f"dropout per {kind}: {name}"] = list(np.convolve(values, np.ones(width) / width, "valid"))
        test = trainer.evaluate(x_test, y_test)
        print(f"dropout per {kind}: test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}")
        assert data.name != "Fashion-MNIST" or steps < 300 or test["accuracy"] > 0.8
    curves.plot(picture, title=f"{data.name} at 32 x 32 x 3, means of {width} steps", mark_every=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.steps, picture=options.out / "06_convolutional_net.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
