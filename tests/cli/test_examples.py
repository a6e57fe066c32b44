"""Every file in examples/ runs to its end as a reader would run it, in a process and a folder of its own."""

import ast
import re

import pytest
from fusedrop.cli.datasets import DEBIAN_FOLDER
from repository import ROOT
from running_examples import assert_picture, options_of, run, small  # noqa: F401

EXAMPLES = sorted((ROOT / "examples" / "textbooks").glob("*.py"))
MAX_LINES = 79

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


def with_option(name):
    found = [e for e in EXAMPLES if options_of(e, {name: ""})]
    assert found, f"no example has {name}: has it been renamed?"
    return pytest.mark.parametrize("example", found, ids=lambda e: e.stem)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_it_runs_and_prints_what_it_promises(example, small, tmp_path):  # noqa: F811
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


@with_option("--data")
def test_missing_data_are_one_line(example, tmp_path):
    done = run(example, tmp_path / "cwd", {"--data": tmp_path / "none", "--epochs": 1, "--out": tmp_path})
    assert done.returncode != 0
    assert re.fullmatch(rf".*{re.escape(str(tmp_path / 'none'))}: wanted .*\n", done.stderr)


@with_option("--out")
def test_an_out_that_is_a_file_is_one_line(example, small, tmp_path):  # noqa: F811
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
    source, path = example.read_text(encoding="utf-8"), f"textbooks/{example.name}"
    assert len(source.splitlines()) <= MAX_LINES
    assert f"Run: python examples/{path}" in ast.get_docstring(ast.parse(source))
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"[{example.name}]({path})" in readme
    assert f"`python examples/{path}" in readme


def test_the_table_of_printed_lines_names_only_examples():
    assert set(PRINTED) <= {e.stem for e in EXAMPLES}
