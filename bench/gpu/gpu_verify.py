"""Verifies all CUDA kernels, as `fusedrop info --verify` does.

    python -m bench.gpu.gpu_verify [--emulated MODULE.so]

The command itself cannot load the emulated module, which is for tests.
"""

from __future__ import annotations

import argparse
import sys

from fusedrop.cli.info import info


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulated", help="a _cuda made for the host: a dry run without a GPU")
    options = parser.parse_args()
    if options.emulated:
        from bench.gpu.gpu_peers import load_emulated

        load_emulated(options.emulated)
    return info(verify=True)


if __name__ == "__main__":
    sys.exit(main())
