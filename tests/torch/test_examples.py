"""Every file in examples/torch/ runs to its end, as tests/cli/test_examples.py checks it for the others."""

import ast
import re
import runpy
import sys

import pytest
from repository import ROOT

pytest.importorskip("torch", reason="PyTorch is not installed")

from running_examples import assert_picture, options_of, run, small  # noqa: F401

EXAMPLES = sorted((ROOT / "examples" / "torch").glob("*.py"))
MAX_LINES = 99
EACH = pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)

# What an example prints on the small data. An example that is not in here is run all the same.
SHARE = r"[01]\.\d{3}"
PRINTED = {
    "07_fashion_mnist_mlp": [rf"^epoch  2  train loss \d\.\d+  train accuracy {SHARE}\d  test accuracy {SHARE}\d$"],
    "12_dense_dropout": [rf"^dropout 0\.{n}: test loss \d\.\d+, .* test accuracy {SHARE}$" for n in (5, 0)],
    "patched_model": [
        r"^hidden\.0, hidden\.1, hidden\.2: Linear\(64, 256\) \+ ReLU \+ Dropout\(0\.3\)$",
        r"^patched +last loss",
    ],
    "transformer_ffn": [rf"^{name}: \d+ ms a step, test accuracy {SHARE}, " for name in ("fused", "torch")],
    "uncertainty": [rf"^right: {SHARE}; surest tenth {SHARE}, last {SHARE}$"],
}


@EACH
def test_it_runs_and_prints_what_it_promises(example, small, tmp_path):  # noqa: F811
    cwd, out = tmp_path / "cwd", tmp_path / "new" / "out"
    done = run(example, cwd, {"--data": small, "--epochs": 2, "--steps": 3, "--out": out})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for pattern in [r"^data: the images in small, from the folder ", *PRINTED.get(example.stem, [])]:
        assert re.search(pattern, done.stdout, flags=re.MULTILINE), f"wanted {pattern} in\n{done.stdout}"
    assert list(cwd.iterdir()) == [], "files go to --out"
    assert_picture(out / f"{example.stem}.png")


@EACH
def test_missing_data_are_one_line(example, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [example.name, "--data", str(tmp_path / "none"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=rf"^{example.name}: {re.escape(str(tmp_path / 'none'))}: wanted [^\n]*$"):
        runpy.run_path(str(example), run_name="__main__")


@EACH
def test_it_can_be_read_in_a_minute(example):
    source, path = example.read_text(encoding="utf-8"), f"torch/{example.name}"
    assert len(source.splitlines()) <= MAX_LINES
    assert f"Run: python examples/{path}" in ast.get_docstring(ast.parse(source))
    assert {"--data", "--out"} <= set(options_of(example, {"--data": "", "--out": ""}))
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"[{path}]({path})" in readme
    assert f"`python examples/{path}" in readme


def test_the_table_of_printed_lines_names_only_examples():
    assert set(PRINTED) <= {e.stem for e in EXAMPLES}
    assert len(EXAMPLES) >= 5
