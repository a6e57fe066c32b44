"""The uncertainty of a network's predictions: Monte-Carlo dropout on Fashion-MNIST.

    y_s = softmax(net(x) with mask s), s = 1 ... 100        x [M, 784]    y_s [M, 10]
    mean, std = their mean and standard deviation           both [M, 10]

The std of the predicted class measures how much the masks disagree. The picture shows test images from the surest to
the least sure, the share of right predictions in ten groups of growing std, and one image that is turned: the masks
disagree long before the prediction changes. What comes before the first mask is computed once for all 100 samples.

Run: python examples/torch/uncertainty.py [--data DIR] [--epochs 10] [--out DIR]
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from fusedrop.cli.datasets import DatasetError, load
from fusedrop.torch import Linear, mc_dropout
from matplotlib.figure import Figure  # without pyplot: draws into a file, opens no window
from torch.nn import functional as F

NAMES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]


def train(x, y, epochs):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        Linear(x.shape[1], 256, activation="relu", p=0.2),
        Linear(256, 256, activation="relu", p=0.5),
        Linear(256, 10),
    )
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(256):
            adam.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            adam.step()
    return torch.nn.Sequential(net, torch.nn.Softmax(1))


def turned(image, degrees):
    """[n, pixels]: the image turned by each of n angles."""
    side, a = math.isqrt(len(image)), torch.deg2rad(degrees)
    matrices = torch.stack([a.cos(), -a.sin(), a * 0, a.sin(), a.cos(), a * 0], 1).reshape(-1, 2, 3)
    images = image.reshape(1, 1, side, side).expand(len(a), -1, -1, -1)
    return F.grid_sample(images, F.affine_grid(matrices, images.shape, False), align_corners=False).flatten(1)


def main(data, epochs, picture):
    x, y, x_test, y_test = (torch.from_numpy(a) for a in (data.x_train, data.y_train, data.x_test, data.y_test))
    names = NAMES if data.name == "Fashion-MNIST" else list(map(str, range(10)))
    model = train(x, y, epochs)
    mean, std = mc_dropout(model, x_test, seed=0)
    guess = mean.argmax(1)
    spread = std.gather(1, guess[:, None])[:, 0]
    order = spread.argsort()
    right = [group.float().mean().item() for group in (guess == y_test)[order].tensor_split(10)]
    print(f"right: {(guess == y_test).float().mean():.3f}; surest tenth {right[0]:.3f}, last {right[-1]:.3f}")
    if data.name == "Fashion-MNIST" and epochs >= 10:
        assert right[0] > 0.98 > 0.75 > right[-1], "unsure predictions must be wrong more often"
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    figure.suptitle(f"{data.name}, 100 masks: predictions from the surest to the least sure, mean ± std")
    panels = figure.subplot_mosaic("01234567;LLLLRRRR", height_ratios=(1, 2))
    for panel, share in zip("01234567", (0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99, 1), strict=True):
        i = order[round(share * (len(order) - 1))]
        panels[panel].imshow(x_test[i].reshape(math.isqrt(x.shape[1]), -1), cmap="gray_r")
        title = f"{names[guess[i]]}\n{mean[i, guess[i]]:.2f} ± {spread[i]:.2f}\n(is: {names[y_test[i]]})"
        panels[panel].set_title(title, fontsize=9, color="C3" if guess[i] != y_test[i] else "black")
        panels[panel].axis("off")
    panels["L"].bar(range(1, 11), right, color="C0")
    panels["L"].set(xlabel="test images in ten groups, by std of the predicted class", ylabel="share right")
    degrees = torch.arange(0.0, 61, 2)
    mean, std = mc_dropout(model, turned(x_test[0], degrees), seed=0, progress=False)
    for k in mean.max(0).values.topk(3).indices.sort().values:
        panels["R"].plot(degrees, mean[:, k], label=names[k])
        low, high = (mean - std)[:, k].clamp(min=0), (mean + std)[:, k].clamp(max=1)
        panels["R"].fill_between(degrees, low, high, alpha=0.25)
    panels["R"].set(xlabel="degrees by which the first test image is turned", ylabel="probability, mean ± std")
    panels["R"].legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(picture, dpi=150)


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
        main(data, options.epochs, picture=options.out / "uncertainty.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
