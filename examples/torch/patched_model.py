"""A model written with torch.nn only, patched: same weights, same optimizer, fused calls, reproducible masks.

    patch(model)                  makes each Linear -> activation -> Dropout one call, in place; the report lists them
    assign_mask_keys(model, 7)    makes the masks a function of (seed 7, layer, step): any other run draws them too
    unpatch(model)                restores the model of torch.nn

Trains one small transformer on the rows of Fashion-MNIST images, as written with torch.nn and patched.

Run: python examples/torch/patched_model.py [--data DIR] [--steps 150] [--out DIR]
"""

import argparse
import sys
import time
from pathlib import Path

import fusedrop.torch as ft
import torch
from fusedrop.cli.datasets import DatasetError, load
from matplotlib.figure import Figure
from torch import nn


class Classifier(nn.Module):
    """28 tokens of 28 pixels -> encoder layer -> mean over tokens -> 10 classes."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(28, 64)
        self.encoder = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.1, activation="gelu", batch_first=True)
        self.hidden = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.hidden(self.encoder(self.embed(x)).mean(1)))


def train(model, data, steps):
    """The losses of `steps` steps of SGD, and their time in seconds."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, labels = torch.from_numpy(data.x_train).reshape(-1, 28, 28), torch.from_numpy(data.y_train).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    losses, start = [], time.perf_counter()
    for step in range(steps):
        rows = order[torch.arange(step * 128, step * 128 + 128) % len(x)]
        loss = nn.functional.cross_entropy(model(x[rows]), labels[rows])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    return losses, time.perf_counter() - start


def compare(data, steps, picture):
    axes = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    results = {}
    for name in ("torch.nn", "patched"):
        torch.manual_seed(0)
        model = Classifier()
        if name == "patched":
            keys = list(model.state_dict())
            print(ft.patch_report(ft.patch(model)))
            assert list(model.state_dict()) == keys  # names and parameters are unchanged
            ft.assign_mask_keys(model, seed=7)
        results[name], seconds = train(model, data, steps)
        smooth = torch.tensor(results[name]).unfold(0, min(10, steps), 1).mean(1)
        axes.plot(smooth, label=f"{name}: {1000 * seconds / steps:.1f} ms a step")
        print(f"{name:9} last loss {smooth[-1]:.3f}, {1000 * seconds / steps:.1f} ms a step")
    ft.unpatch(model)
    assert type(model.hidden[0]) is nn.Linear
    axes.set(title=f"{data.name}: one model, before and after patch()", xlabel="step", ylabel="loss, mean of 10 steps")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.figure.savefig(picture, dpi=150)


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
        compare(data, options.steps, picture=options.out / "patched_model.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
