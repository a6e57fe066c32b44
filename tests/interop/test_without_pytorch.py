"""fusedrop works without PyTorch; fusedrop.torch raises an error that tells what to install."""

import subprocess
import sys

WITHOUT = """
import sys
sys.modules["torch"] = None
import fusedrop
try:
    import fusedrop.torch
except ImportError as error:
    print(error)
"""


def test_the_package_does_not_import_pytorch():
    code = "import sys, fusedrop; print('torch' in sys.modules, 'fusedrop.torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_fusedrop_torch_says_what_is_missing():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fusedrop.torch needs PyTorch, which is not installed: pip install torch"
