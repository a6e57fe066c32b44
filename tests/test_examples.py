"""Every file in examples/ runs to its end as a reader would run it, in a process and a folder of its own."""

import ast
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fusedrop.datasets import DEBIAN_FOLDER
from matplotlib.image import imread

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("[0-9]*.py"))
MAX_LINES = 79
TIMEOUT_S = 120

# What an example prints besides passing its own asserts. One that is not in here is run all the same.
PRINTED = {
    "01_dropout_textbook": [
        r"^ +0\.5 +0\.(49|50)\d\d +0\.5000 +[-+][0-3]\.\d\d$",
        r"y = x\*mask, dx = dout\*mask, test y = x\*\(1-ratio\): exact for ranks \[1, 2, 3, 4, 5\]",
        r"mean (\d\.\d\d)\d, the test output's mean \1",
    ],
    "02_overfitting": [
        r"^no dropout +train accuracy [01]\.\d{3}, test accuracy [01]\.\d{3}$",
        r"^dropout 0\.2 +train accuracy [01]\.\d{3}, test accuracy [01]\.\d{3}$",
    ],
    "03_linear_dropout_relu_linear": [
        r"x \(442, 10\) -> y \(442, 2\)",
        r"dx \(442, 10\), d0\.weight \(5, 10\), d0\.bias \(5,\), d1\.weight \(2, 5\), d1\.bias \(2,\)",
        r"by hand +dw1 with this mask differs by at most \d\.\de[-+]\d\d",
        r"numeric +d0\.weight differs by at most \d\.\de-(09|1\d)",
        r"right for [789]\d% of the other 100",
    ],
    "04_l2_and_dropout": [
        r"^ +train accuracy +test accuracy +test loss +sqrt\(Σ w²\) +Σ \|w\|$",
        r"^dropout \+ L1( +\d+\.\d{3}){5}$",
    ],
    "07_fashion_mnist_mlp": [
        r"^data: the images in small, from the folder ",
        r"^epoch  2  train loss \d\.\d{4}  train accuracy [01]\.\d{4}  test accuracy [01]\.\d{4}$",
    ],
    "08_early_stopping": [
        r"^2 epochs, then: no epoch was left$",
        r"^test accuracy 0\.\d{4}, loss \d\.\d{4}, with the weights of epoch [12]$",
    ],
    "09_fully_connected_layer": [
        r"^z +\(200, 100\) +differs from the formula by \d\.\de-0[678]",
        r"^dW \(64, 100\) +differs from the formula by \d\.\de-0[678]",
        r"^epoch 30: .* test accuracy 0\.9\d",
    ],
    "10_scheduled_rate": [r"^step    3  train loss \d\.\d{3}  test loss .*  dropout rate 0\.500$"],
    "11_adaptive_rate": [
        r"^adaptive +train loss .*, gap -?\d\.\d{3}, dropout rate 0\.\d00$",
        r"^fixed .*, gap -?\d\.\d{3}$",
    ],
    "12_dense_dropout": [
        r"^dropout 0\.5: test loss \d\.\d{3}, lowest \d\.\d{3}; test accuracy 0\.\d{3}$",
        r"predicted, with its probability: \d \([01]\.\d\d\)",
    ],
}


def options_of(example, values):
    """The options among `values` that the example has, as arguments."""
    source = example.read_text(encoding="utf-8")
    return [word for name, value in values.items() if f'"{name}"' in source for word in (name, str(value))]


def with_option(name):
    found = [e for e in EXAMPLES if options_of(e, {name: ""})]
    assert found, f"no example has {name}: has it been renamed?"
    return pytest.mark.parametrize("example", found, ids=lambda e: e.stem)


def run(example, cwd, values):
    """The finished process, in the empty folder `cwd`."""
    cwd.mkdir()
    command = [sys.executable, str(example), *options_of(example, values)]
    # OpenMP's idle threads spin by default: on a machine with other work to do that was seen to cost a factor of 6.
    env = {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": ""}
    env.pop("MPLBACKEND", None)  # an example must not need it
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S)


def write_idx(path, array):
    sizes = np.array(array.shape, ">u4").tobytes()
    magic = (0x0800 + array.ndim).to_bytes(4, "big")
    path.write_bytes(gzip.compress(magic + sizes + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """600 training and 100 test images in Fashion-MNIST's format and size: three batches, the last a part."""
    folder = tmp_path_factory.mktemp("data") / "small"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for part, n in (("train", 600), ("t10k", 100)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_it_runs_and_prints_what_it_promises(example, small, tmp_path):
    cwd, out = tmp_path / "cwd", tmp_path / "new" / "out"
    done = run(example, cwd, {"--data": small, "--epochs": 2, "--steps": 3, "--out": out})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.strip(), "an example must say what it shows"
    for pattern in PRINTED.get(example.stem, []):
        assert re.search(pattern, done.stdout, flags=re.MULTILINE), f"wanted {pattern} in\n{done.stdout}"
    assert list(cwd.iterdir()) == [], "files go to --out"
    if options_of(example, {"--out": out}):
        assert_picture(out / f"{example.stem}.png")


def assert_picture(path):
    pixels = imread(path)
    assert min(pixels.shape[:2]) >= 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10


@with_option("--data")
def test_missing_data_are_one_line(example, tmp_path):
    done = run(example, tmp_path / "cwd", {"--data": tmp_path / "none", "--epochs": 1, "--out": tmp_path})
    assert done.returncode != 0
    assert re.fullmatch(rf".*{re.escape(str(tmp_path / 'none'))}: wanted .*\n", done.stderr)


@with_option("--out")
def test_an_out_that_is_a_file_is_one_line(example, small, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(example, tmp_path / "cwd", {"--data": small, "--epochs": 1, "--out": tmp_path / "file"})
    assert done.returncode != 0
    assert re.fullmatch(rf".*{re.escape(str(tmp_path / 'file'))}.*\n", done.stderr)
    assert "epoch" not in done.stdout, "it must be found before training"


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason=f"no Fashion-MNIST in {DEBIAN_FOLDER}")
def test_one_epoch_of_fashion_mnist_learns(tmp_path):
    (example,) = (e for e in EXAMPLES if e.stem == "07_fashion_mnist_mlp")
    done = run(example, tmp_path / "cwd", {"--data": DEBIAN_FOLDER, "--epochs": 1, "--out": tmp_path / "out"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("data: Fashion-MNIST, ")
    found = re.search(r"train loss (\S+)  train accuracy (\S+)  test accuracy (\S+)", done.stdout)
    loss, train_accuracy, test_accuracy = map(float, found.groups())
    assert loss < 1.4
    assert train_accuracy > 0.45
    assert test_accuracy > 0.65
    assert_picture(tmp_path / "out" / "07_fashion_mnist_mlp.png")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_it_can_be_read_in_a_minute(example):
    source = example.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    assert f"Run: python examples/{example.name}" in ast.get_docstring(ast.parse(source))
    readme = example.with_name("README.md").read_text(encoding="utf-8")
    assert f"[{example.name}]({example.name})" in readme
    assert f"`python examples/{example.name}" in readme


def test_the_table_of_printed_lines_names_only_examples():
    assert set(PRINTED) <= {e.stem for e in EXAMPLES}
