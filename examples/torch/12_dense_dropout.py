"""Dense(64) -> Dropout(0.5) -> Dense(64) -> Dropout(0.5) -> Dense(10) on 100 inputs: ReLU twice, softmax at the end.

    h1 = dropout(relu(x w1ᵀ + b1), 0.5)     x [M, 100]   w1 [64, 100]   h1 [M, 64]     one fused call
    h2 = dropout(relu(h1 w2ᵀ + b2), 0.5)                 w2 [64, 64]    h2 [M, 64]     one fused call
    y = softmax(h2 w3ᵀ + b3)                             w3 [10, 64]    y [M, 10]      softmax inside the loss

Real data with 100 inputs: Fashion-MNIST's images, averaged from 28 x 28 down to 10 x 10 pixels. The training set has
only 2000 images, so that a network can overfit. The same network without dropout, from the same weights, overfits.

Run: python examples/torch/12_dense_dropout.py [--data DIR] [--epochs 100] [--out DIR]
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from fusedrop.cli.datasets import DatasetError, load
from fusedrop.torch import Linear
from matplotlib.figure import Figure  # without pyplot: draws into a file, opens no window
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy


def inputs(images):
    """[n, side * side] as [n, 100]: each of 10 x 10 pixels is the mean of the pixels it covers. Scaled to 0 +- 1."""
    side = math.isqrt(images.shape[1])
    x = adaptive_avg_pool2d(torch.from_numpy(images).reshape(-1, 1, side, side), 10).flatten(1)
    return (x - x.mean()) / x.std()


def build(rate):
    torch.manual_seed(0)  # the same weights for every rate
    return torch.nn.Sequential(
        Linear(100, 64, activation="relu", p=rate),
        Linear(64, 64, activation="relu", p=rate),
        Linear(64, 10),
    )


def train(net, x, y, x_test, y_test, epochs):
    """Test loss after each epoch, and the last test accuracy."""
    adam, test_losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(x)).split(32):
            adam.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()
            adam.step()
        with torch.inference_mode():
            logits = net.eval()(x_test)
        test_losses.append(cross_entropy(logits, y_test).item())
    return test_losses, (logits.argmax(1) == y_test).float().mean().item()


def main(data, epochs, picture):
    x, y = inputs(data.x_train)[:2000], torch.from_numpy(data.y_train)[:2000]
    x_test, y_test = inputs(data.x_test), torch.from_numpy(data.y_test)
    axes = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    last = {}
    for rate, style in ((0.5, "C0-"), (0.0, "C1--")):
        losses, accuracy = train(build(rate), x, y, x_test, y_test, epochs)
        last[rate] = losses[-1]
        print(f"dropout {rate}: test loss {losses[-1]:.3f}, lowest {min(losses):.3f}; test accuracy {accuracy:.3f}")
        axes.plot(range(1, epochs + 1), losses, style, label=f"dropout {rate}: test accuracy {accuracy:.3f} at the end")
    axes.set(title=f"{data.name}, 10 x 10 pixels, {len(x)} images trained on", xlabel="epoch", ylabel="test loss")
    axes.set_ylim(0, 1.5 * max(last.values()))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.figure.savefig(picture, dpi=150)
    if data.name == "Fashion-MNIST" and epochs >= 100:
        assert last[0.5] < last[0.0], "with dropout it must overfit less"


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
