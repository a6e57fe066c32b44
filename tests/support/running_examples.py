"""How the tests run an example: as a reader would, in a process and a folder of its own, on small data."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

TIMEOUT_S = 120


def options_of(example, values):
    """The options among `values` that the example has, as arguments."""
    source = example.read_text(encoding="utf-8")
    return [word for name, value in values.items() if f'"{name}"' in source for word in (name, str(value))]


def run(example, cwd, values):
    """The finished process, in the empty folder `cwd`."""
    cwd.mkdir()
    command = [sys.executable, str(example), *options_of(example, values)]
    # OpenMP's idle threads spin by default: on a machine with other work that was seen to cost a factor of 6.
    env = {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": ""}
    env.pop("MPLBACKEND", None)  # an example must not need it
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S)


def write_idx(path, array):
    sizes = np.array(array.shape, ">u4").tobytes()
    magic = (0x0800 + array.ndim).to_bytes(4, "big")
    path.write_bytes(gzip.compress(magic + sizes + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """600 training and 100 test images in Fashion-MNIST's format and size: three batches, the last one not full."""
    folder = tmp_path_factory.mktemp("data") / "small"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for part, n in (("train", 600), ("t10k", 100)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return folder


def assert_picture(path):
    """The picture is large enough and is not empty."""
    pixels = imread(path)
    assert min(pixels.shape[:2]) >= 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
