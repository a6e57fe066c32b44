"""The code of docs/pytorch.md runs, from top to bottom."""

import re

import pytest
from repository import ROOT

pytest.importorskip("torch", reason="PyTorch is not installed")

GUIDE = ROOT / "docs" / "pytorch.md"


def test_the_guides_code_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    names = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert "Linear(784, 256) + ReLU + Dropout(0.2)" in capsys.readouterr().out
    keep, y = names["keep"], names["after_first_layer"]
    assert (keep[y.detach().numpy() != 0]).all()  # the guide says that this is the mask
