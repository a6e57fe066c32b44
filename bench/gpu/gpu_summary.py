"""The result of the GPU test run: one file made from the output of its steps, a short table, and what failed.

    python -m bench.gpu.gpu_summary FOLDER --results FOLDER [--dry-run]

Reads bench.json, verified.json, tests.xml, sanitizer-<tool>.log, reasons.txt (what did not run, and why) and
failed.txt; writes <gpu>-<date>.json. What was not measured is null. The exit status is 1 if a test, a mask, a value or
a checker failed, and, except in a dry run, if the verification, the tests or the benchmark did not run at all.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

KEYS = {
    "kernels_verified": "kernels of all GPUs that agree with the CPU",
    "tests_run": "GPU tests that were not skipped",
    "tests_passed": "of these",
    "sanitizer_errors": "of compute-sanitizer's four tools, together",
    "masks_equal": "every mask of the benchmark equals the CPU's",
    "tflops_8192": "our layer's forward at 8192x8192x8192, bfloat16, p = 0.1",
    "vs_cublas_8192": "time of torch.mm over ours, there: above 1, the whole layer is faster than the bare product",
    "rng_cost_k512": "time of p = 0.1 over p = 0, minus 1, at K = 512 (8192x512x8192)",
    "rng_cost_k4096": "the same at K = 4096 (8192x4096x8192)",
    "vs_torch_eager": "PyTorch eager's time over ours, forward and backward, at 8192x8192x8192",
    "vs_torch_compile": "torch.compile's (max-autotune), likewise",
}
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")


def checked(summary: dict) -> dict:
    """Returns the summary; ValueError for a missing or an unknown key."""
    missing, unknown = KEYS.keys() - summary.keys(), summary.keys() - KEYS.keys()
    if missing or unknown:
        raise ValueError(f"summary must have the keys {sorted(KEYS)}; missing {sorted(missing)}, not {sorted(unknown)}")
    return summary


def of_rows(rows: list[dict]) -> dict:
    """The summary's figures from the benchmark's rows; None if a row or a candidate is missing."""

    def time(shape: str, name: str) -> float | None:
        """From the last such row: the one with torch.compile, if it ran, has timed its candidates together."""
        found = [
            row["us"][name] for row in rows if (row["shape"], row["dtype"]) == (shape, "bfloat16") and name in row["us"]
        ]
        return found[-1] if found else None

    def ratio(shape: str, above: str, below: str) -> float | None:
        """From the last row that has both."""
        both = [row["us"] for row in rows if (row["shape"], row["dtype"]) == (shape, "bfloat16")]
        both = [us for us in both if above in us and below in us]
        return both[-1][above] / both[-1][below] if both else None

    def less_one(value: float | None) -> float | None:
        return None if value is None else value - 1

    big = "8192x8192x8192"
    us = time(big, "ours forward")
    return {
        "masks_equal": all(row["masks_equal"] for row in rows) if rows else None,
        "tflops_8192": None if us is None else 2 * 8192**3 / us * 1e-6,
        "vs_cublas_8192": ratio(big, "torch.mm", "ours forward"),
        "rng_cost_k512": less_one(ratio("8192x512x8192", "ours forward", "ours forward p=0")),
        "rng_cost_k4096": less_one(ratio("8192x4096x8192", "ours forward", "ours forward p=0")),
        "vs_torch_eager": ratio(big, "eager forward+backward", "ours forward+backward"),
        "vs_torch_compile": ratio(big, "compile forward+backward", "ours forward+backward"),
    }


def count_tests(path: Path) -> tuple[int, int] | tuple[None, None]:
    """(run, passed) of a junit file; skipped tests have not run."""
    if not path.is_file():
        return None, None
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    tests, skipped, failed, errors = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "skipped", "failures", "errors")
    )
    return tests - skipped, tests - skipped - failed - errors


def verified_kernels(path: Path) -> dict[str, dict[str, str]]:
    """By device: the result of each kernel's verification, as fusedrop remembers it."""
    return json.loads(path.read_text()) if path.is_file() else {}


def count_verified(devices: dict[str, dict[str, str]]) -> int | None:
    results = [result for kernels in devices.values() for result in kernels.values()]
    return results.count("verified") if results else None


def sanitizer_errors(log: str) -> int | None:
    """The number of errors that one tool reports; None if its log has no summary."""
    found = re.findall(r"ERROR SUMMARY: (\d+) error", log)
    found += re.findall(r"RACECHECK SUMMARY: (\d+) hazard", log)
    return sum(map(int, found)) if found else None


def sanitizers(folder: Path) -> dict[str, int | str]:
    """The number of errors of each tool, or why it did not run."""
    found: dict[str, int | str] = {}
    for tool in TOOLS:
        path = folder / f"sanitizer-{tool}.log"
        log = path.read_text(errors="replace") if path.is_file() else ""
        if "not supported" in log:
            found[tool] = "not run: " + next(line for line in log.splitlines() if "not supported" in line).strip("= ")
        else:
            errors = sanitizer_errors(log)
            found[tool] = "not run: " + ("no summary in its log" if log else "no log") if errors is None else errors
    return found


def failures(summary: dict, wrong: list[str], dry_run: bool) -> list[str]:
    """What failed, one line each."""
    found = list(wrong)
    if summary["tests_run"] != summary["tests_passed"]:
        found.append(f"{summary['tests_run'] - summary['tests_passed']} of {summary['tests_run']} tests failed")
    if summary["masks_equal"] is False:
        found.append("a mask differs from the CPU's")
    if summary["sanitizer_errors"]:
        found.append(f"compute-sanitizer found {summary['sanitizer_errors']} errors")
    if not dry_run and not summary["kernels_verified"]:
        found.append("no kernel was verified")
    if not dry_run and not summary["tests_run"]:
        found.append("no GPU test ran")
    if not dry_run and summary["masks_equal"] is None:
        found.append("the benchmark measured nothing")
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def shown(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def slug(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` as `h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the files that the steps wrote")
    parser.add_argument("--results", type=Path, required=True, help="the folder that receives <gpu>-<date>.json")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: what needs one may be missing")
    options = parser.parse_args()
    bench_file = options.folder / "bench.json"
    bench = json.loads(bench_file.read_text()) if bench_file.is_file() else {"device": None, "rows": [], "wrong": []}
    tools = sanitizers(options.folder)
    counted = [errors for errors in tools.values() if isinstance(errors, int)]
    tests_run, tests_passed = count_tests(options.folder / "tests.xml")
    kernels = verified_kernels(options.folder / "verified.json")
    summary = checked(
        {
            "kernels_verified": count_verified(kernels),
            "tests_run": tests_run,
            "tests_passed": tests_passed,
            "sanitizer_errors": sum(counted) if counted else None,
            **of_rows(bench["rows"]),
        }
    )
    reasons, failed = (lines(options.folder / name) for name in ("reasons.txt", "failed.txt"))
    wrong = failures(summary, failed + bench["wrong"], options.dry_run)
    content = {
        "device": bench["device"],
        "summary": summary,
        "passed": not wrong and not options.dry_run,
        "failures": wrong,
        "not_run": reasons,
        "kernels": kernels,
        "sanitizer": tools,
        "left_out": bench.get("left_out", []),
        "rows": bench["rows"],
    }
    device = bench["device"] or {"name": "no device", "date": "undated"}
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{slug(device['name'])}-{device['date']}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{device['name']}, {device['date']}")
    for key, meaning in KEYS.items():
        value = summary[key]
        print(f"  {key:18} {shown(value):>9}  {meaning}")
    for tool, errors in tools.items():
        print(f"  {tool:18} {errors!s:>9}" + ("  errors" if isinstance(errors, int) else ""))
    for reason in reasons:
        print(f"  not run: {reason}")
    print(f"wrote {path.name}")
    print("FAILED: " + "; ".join(wrong) if wrong else "dry run: nothing failed" if options.dry_run else "PASSED")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
