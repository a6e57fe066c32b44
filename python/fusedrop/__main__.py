"""The command ``fusedrop``, also ``python -m fusedrop``: ``info`` and ``demo``.

Exit status: 0 success, 1 failure, 2 a wrong argument, 130 interrupted by Ctrl-C.
An expected error prints one line on stderr, never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import fusedrop as fd


class Parser(argparse.ArgumentParser):
    """Prints an error in one line, without the usage text above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's arguments); returns the exit status."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version and wrong arguments
        return int(stop.code or 0)
    name = f"fusedrop {args.command}"
    try:
        status = _info(args.verify) if args.command == "info" else _demo(args, name)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        print(f"\n{name}: interrupted {stop}".rstrip(), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the pipe, such as `head`, has ended. Without this, Python prints another error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="fusedrop", description="Fused linear layers whose dropout costs nothing.")
    top.add_argument("--version", action="version", version=f"fusedrop {fd.__version__}")
    commands = top.add_subparsers(dest="command", metavar="{info,demo}", required=True)
    info = commands.add_parser("info", help="what is installed, and a self-test against the reference")
    info.add_argument("--verify", action="store_true", help="verify all CUDA kernels on every GPU now")
    demo = commands.add_parser("demo", help="train on Fashion-MNIST with dropout and without")
    demo.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    demo.add_argument("--epochs", type=_epochs, default=10, metavar="N", help="default 10")
    demo.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="for demo.png and demo.json")
    demo.add_argument("--seed", type=_seed, default=0, metavar="S", help="default 0")
    return top


def _info(verify: bool) -> int:
    from fusedrop.cli.info import info

    return info(verify)


def _demo(args: argparse.Namespace, name: str) -> int:
    from fusedrop.cli import demo
    from fusedrop.cli.datasets import DatasetError

    try:
        demo.run(args.data, args.epochs, args.out, args.seed)
    except (demo.DemoError, DatasetError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, demo.ArgumentError) else 1
    return 0


def _epochs(text: str) -> int:
    return _integer(text, 1, None)


def _seed(text: str) -> int:
    return _integer(text, 0, 2**64 - 1)


def _integer(text: str, low: int, high: int | None) -> int:
    wanted = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        raise argparse.ArgumentTypeError(f"wanted {wanted}, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
