"""No M x N temporary and no mask: a call's memory beyond its arrays is its packing buffers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: the peak is that of the process, and scratch memory outlives a call.
SCRIPT = """
import re, pathlib, numpy as np, fusedrop as fd

def status(key):
    return int(re.search(key + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

def growth(call):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before

M, K, N = 20000, 8, 1024
fd.config.set_num_threads(2)
x, w, b = np.ones((M, K), np.float32), np.ones((N, K), np.float32), np.ones(N, np.float32)
dy, y = np.ones((M, N), np.float32), np.ones((M, N), np.float32)  # ones: their pages exist
options = {"activation": "gelu", "p": 0.5, "input_p": 0.5, "rng": fd.Philox(seed=1)}
_, saved = fd.linear_forward(x[:1], w, b, **options)  # pages in the code
print(growth(lambda: fd.linear(x, w, b, out=y, **options)))
_, saved = fd.linear_forward(x, w, b, **options)
out = {"dx": np.zeros_like(x), "dw": np.zeros_like(w), "db": np.zeros_like(b)}
print(growth(lambda: fd.linear_backward(dy, saved, **out)))
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read and reset through Linux's /proc"
)
def test_a_call_takes_no_memory_of_the_size_of_y():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    if re.search("PermissionError|Errno 13", done.stderr):
        pytest.skip("this system does not let a process reset its peak")
    assert done.returncode == 0, done.stderr
    forward, backward = map(int, done.stdout.split())
    bits_of_a_mask = 20000 * 1024 // 8 // 1024  # kB: 2500; y itself is 32 times that
    assert forward < bits_of_a_mask, "packing buffers for two threads are 2100 kB"
    assert backward < bits_of_a_mask / 2, "backward packs into the same buffers"
