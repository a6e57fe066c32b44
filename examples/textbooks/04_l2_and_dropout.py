"""L2 and L1 penalties with dropout: training minimizes the loss plus the penalties.

    objective = loss + λ₂/2 Σ w² + λ₁ Σ |w|        sums over the weights of all layers; biases are not penalized
    its gradient by w: dw + λ₂ w + λ₁ sign(w)      dw [N, K] from backward, with dropout in the loss; w [N, K]

    h = dropout(relu(x w1ᵀ + b1), p)               x [M, 784]   w1 [128, 784]   h [M, 128]      one fused call
    logits = h w2ᵀ + b2                                         w2 [10, 128]    logits [M, 10]

fd.training.SGD(..., l1=λ₁, l2=λ₂) adds the penalties' gradient, fd.training.penalty is their value. All runs have the
same weights and batches: L2, L1, dropout of p = 0.5, two of them, none. 2000 images are few enough to overfit.

Run: python examples/textbooks/04_l2_and_dropout.py [--data DIR] [--epochs 60] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

import fusedrop as fd
from fusedrop.cli.datasets import DatasetError, load

IMAGES, L1, L2 = 2000, 2e-4, 3e-3
RUNS = {  # name: dropout, λ₁, λ₂
    "nothing": (0.0, 0.0, 0.0),
    "L2": (0.0, 0.0, L2),
    "L1": (0.0, L1, 0.0),
    "dropout": (0.5, 0.0, 0.0),
    "dropout + L2": (0.5, 0.0, L2),
    "dropout + L1": (0.5, L1, 0.0),
}
COLUMNS = ("train accuracy", "test accuracy", "test loss", "sqrt(Σ w²)", "Σ |w|")


def record_norms(state):  # a callback, called after each epoch
    state.history.record({"sqrt(Σ w²)": fd.training.penalty(state.net, l2=2) ** 0.5})
    state.history.record({"Σ |w|": fd.training.penalty(state.net, l1=1)})


def train(data, epochs, p, l1, l2):
    x, y, test = data.x_train[:IMAGES], data.y_train[:IMAGES], (data.x_test, data.y_test)
    net = fd.Sequential(fd.Linear(x.shape[1], 128, activation="relu", p=p), fd.Linear(128, 10), seed=0)
    sgd = fd.training.SGD(net.parameters(), lr=0.02, momentum=0.9, l1=l1, l2=l2)
    trainer = fd.training.Trainer(net, sgd, callbacks=[record_norms])
    return trainer.fit(x, y, epochs=epochs, batch_size=100, validation=test, train_measured="after")


def main(data, epochs, picture):
    last, curves = {}, fd.training.History()
    print(" " * 12 + "".join(f"{name:>16}" for name in COLUMNS))
    for run, options in RUNS.items():
        history = train(data, epochs, *options)
        if history.stopped:
            sys.exit(history.stopped)  # "Ctrl-C"
        last[run] = {name.replace("validation", "test"): values[-1] for name, values in history.items()}
        print(f"{run:12}" + "".join(f"{last[run][name]:16.3f}" for name in COLUMNS))
        curves[f"{run}: test loss"], curves[f"{run}: weights"] = history["validation loss"], history["sqrt(Σ w²)"]
    panels = {"test loss": list(curves)[::2], "sqrt(Σ w²)": list(curves)[1::2]}
    curves.plot(picture, panels=panels, title=f"{data.name}, {IMAGES} training images", mark_every=10)
    if data.name == "Fashion-MNIST" and epochs >= 60:
        for prefix, without in (("", "nothing"), ("dropout + ", "dropout")):
            l1, l2, neither = last[prefix + "L1"], last[prefix + "L2"], last[without]
            assert l2["sqrt(Σ w²)"] < neither["sqrt(Σ w²)"]
            assert l1["Σ |w|"] < l2["Σ |w|"] < neither["Σ |w|"]
        assert last["dropout + L2"]["test loss"] < last["nothing"]["test loss"]


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
        main(data, options.epochs, picture=options.out / "04_l2_and_dropout.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
