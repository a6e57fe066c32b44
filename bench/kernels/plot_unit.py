"""Time of forward and backward over the time without dropout, by rate: one layer and a chain of layers.

python -m bench.kernels.plot_unit bench/results/<machine>/unit.json picture.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot(rows, path):
    """One line for each layer shape and one for the chain; crosses for element dropout at p = 0.5."""
    fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    colors = ["#0072b2", "#56b4e9", "#009e73", "#d55e00"]
    for color, (name, row) in zip(colors, [item for item in rows.items() if item[0] != "training"], strict=True):
        points = [(0.0, 1.0)] + [(float(key[5:]), r) for key, r in row["ratios"].items() if key.startswith("unit 0.")]
        label = "chain of four 1024-wide layers" if name == "chain" else "one layer, " + name.replace("x", "×")
        ax.plot(*zip(*points, strict=True), "o-", color=color, label=label, markersize=4)
        ax.plot(0.5, row["ratios"]["element 0.5"], "x", color=color)
    ax.plot([], [], "x", color="gray", label="element dropout, p = 0.5")
    ax.plot([0, 1], [1, 0], ":", color="gray", label="1 - p")
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set(xlim=(0, 1), ylim=(0, 1.15), xlabel="p, the share of units dropped")
    ax.set_ylabel("time of forward + backward / without dropout")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    fig.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        plot(json.load(file)["rows"], sys.argv[2])
