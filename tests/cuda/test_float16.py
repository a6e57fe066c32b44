"""float16, which only the CUDA kernels have: every number is widened, scaled and rounded as NumPy does it."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("p", [0.0, 0.001, 0.3, 0.999])
def test_every_float16(device, p):
    x = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    rng = fd.Philox(5, 1, 2)
    got = device.dropout(device.tensor(x), p=p, rng=rng).cpu().numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (x.astype(np.float32) * np.float32(reference.scale(p))).astype(np.float16)
    want = np.where(reference.dropout_mask(x.shape, p=p, rng=rng), scaled, np.float16(0))
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), ~numbers)
    np.testing.assert_array_equal(got[numbers].view(np.uint16), want[numbers].view(np.uint16))


def test_every_other_alignment(device):
    """The same for an odd address, where elements are moved one by one."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    rng = fd.Philox(5, 1, 2)
    odd = device.tensor(np.concatenate([x[:1], x]))[1:]
    got = device.dropout(odd, p=0.3, rng=rng).cpu().numpy()
    want = device.dropout(device.tensor(x), p=0.3, rng=rng).cpu().numpy()
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(got[numbers].view(np.uint16), want[numbers].view(np.uint16))
