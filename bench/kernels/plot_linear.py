"""The README's picture: time of the fused layer as a multiple of the best library's bare matmul, by shape.

python -m bench.kernels.plot_linear bench/results/<machine>/linear.json picture.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot(rows, path):
    """A group of horizontal bars for each shape: our layer and the eager one, over the best bare matmul of the run."""
    rows = [row for row in rows if row["activation"] == "relu"]
    fig, ax = plt.subplots(figsize=(8, 0.62 * len(rows) + 1.6), layout="constrained")
    series = [
        ("fusedrop: forward", "fusedrop, dropout inside", "#0072b2"),
        ("torch: forward", "PyTorch eager", "#e69f00"),
    ]
    for k, (key, label, color) in enumerate(series):
        values = [row["us"].get(key, float("nan")) / best_matmul(row) for row in rows]
        bars = ax.barh([i + (k - 0.5) * 0.38 for i in range(len(rows))], values, 0.36, color=color, label=label)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # or the line at 1 would cross the figures
        ax.bar_label(bars, [f"{v:.2f}" for v in values], padding=4, fontsize=9, bbox=white)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(range(len(rows)), [row["shape"].replace("x", "×") for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel("time of linear + ReLU + dropout(0.5) / the best bare matmul (MKL or OpenBLAS)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.08)
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(path, dpi=150)
    print(f"wrote {path}")


def best_matmul(row):
    return min(t for name, t in row["us"].items() if name.endswith(": matmul"))


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        plot(json.load(file)["rows"], sys.argv[2])
