"""README's table, from a recorded run: python -m bench.support.table bench/results/<machine>/linear.json"""

import json
import sys


def table(run: dict) -> str:
    """A Markdown table: microseconds of this run, and ratios to the best bare matmul of the same run."""
    machine = run["machine"]
    lines = [
        "| M×K×N | fused forward, µs | bare matmul: MKL, OpenBLAS | / best matmul | forward+backward, µs "
        "| / best three matmuls | PyTorch eager / ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in run["rows"]:
        us, ratios = row["us"], row["ratios"]
        cells = [
            row["shape"].replace("x", "×"),
            f"{us['fusedrop: forward']:.0f}",
            f"{us['torch: matmul']:.0f}, {us['numpy: matmul']:.0f}",
            f"{ratios['forward / best matmul']:.2f}",
            f"{us['fusedrop: forward+backward']:.0f}",
            f"{ratios['forward+backward / best 3 matmuls']:.2f}",
            f"{ratios['torch forward+backward / ours']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        f"\n{machine['cpu']}, {machine['isa']}, {machine['threads']} threads, peak {run['peak_gflops']:.0f} GFLOP/s, "
        f"{machine['date']}; relu, p = 0.5, float32."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(table(json.load(file)))
