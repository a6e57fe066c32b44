"""The feed-forward block of a transformer in two fused calls, inside a model that reads Fashion-MNIST row by row.

    h = dropout(gelu(norm(x) w1ᵀ + b1))     x [B, T, D]   w1 [4D, D]   h [B, T, 4D]
    y = x + dropout(h w2ᵀ + b2)             w2 [D, 4D]    y [B, T, D]                  residual=x is added inside

T = 28 tokens, an image's rows. The same block written with torch.nn starts from the same weights and gets the same
batches. Only the masks differ, so the losses are close. The blocks run alternately, so their times can be compared.

Run: python examples/torch/transformer_ffn.py [--data DIR] [--steps 300] [--out DIR]
"""

import argparse
import math
import sys
import time
from pathlib import Path
from statistics import median

import torch
from fusedrop.cli.datasets import DatasetError, load
from fusedrop.torch import Linear
from matplotlib.figure import Figure  # without pyplot: draws into a file, opens no window
from torch import nn
from torch.nn import functional as F

D, P = 64, 0.1


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(D), Linear(D, 4 * D, activation="gelu", p=P)
        self.down = Linear(4 * D, D, p=P)

    def forward(self, x):
        return self.down(self.up(self.norm(x)), residual=x)


class Plain(Fused):
    def forward(self, x):
        h = F.dropout(F.gelu(F.linear(self.norm(x), self.up.weight, self.up.bias)), P, self.training)
        return x + F.dropout(F.linear(h, self.down.weight, self.down.bias), P, self.training)


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return x + super().forward(x, x, x, need_weights=False)[0]


def build(T, block):
    torch.manual_seed(0)  # the same weights for both blocks
    tokens = nn.Unflatten(1, (T, T)), nn.Linear(T, D), Attention(D, 4, batch_first=True)
    return nn.Sequential(*tokens, block(), nn.Flatten(), nn.Linear(T * D, 10))


def main(data, steps, picture):
    x, y, x_test, y_test = (torch.from_numpy(a) for a in (data.x_train, data.y_train, data.x_test, data.y_test))
    axes = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    models = {name: build(math.isqrt(x.shape[1]), block) for name, block in (("fused", Fused), ("torch", Plain))}
    adams = {name: torch.optim.Adam(model.parameters(), lr=1e-3) for name, model in models.items()}
    losses, seconds = {name: [] for name in models}, {name: [] for name in models}
    for rows in torch.randint(len(x), (steps, 128)):
        for name, model in models.items():
            start = time.perf_counter()
            adams[name].zero_grad()
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            adams[name].step()
            seconds[name].append(time.perf_counter() - start)
            losses[name].append(loss.item())
    for (name, model), style in zip(models.items(), ("C0-", "C1--"), strict=True):
        with torch.inference_mode():
            accuracy = (model.eval()(x_test[:2000]).argmax(1) == y_test[:2000]).float().mean().item()
        text = f"{name}: {1e3 * median(seconds[name]):.0f} ms a step, test accuracy {accuracy:.3f}"
        curve = torch.tensor(losses[name]).unfold(0, min(10, steps), 1).mean(1)
        print(f"{text}, train loss {curve[-1]:.3f}")
        axes.plot(range(steps - len(curve), steps), curve, style, label=text)
    axes.set(title=f"{data.name}, rows as tokens: one feed-forward block, written in two ways")
    axes.set(xlabel="step", ylabel="train loss, mean of 10 steps")
    axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.figure.savefig(picture, dpi=150)


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
        main(data, options.steps, picture=options.out / "transformer_ffn.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
