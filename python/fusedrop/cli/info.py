"""The installation, and a self-test that compares it with the specification.

The self-test runs a layer with dropout, forward and backward, on every instruction set this CPU
has, and compares it with ``fusedrop.reference``: masks bit for bit, values within the rounding bound
C * K * eps * sum |x| |w| of a sum of K products. CUDA kernels verify themselves at their first use
(fusedrop.cuda.verification); ``--verify`` verifies all of them now.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time

import numpy as np

import fusedrop as fd
from fusedrop import cuda, reference
from fusedrop.cuda import verification

M, K, N = 37, 61, 45  # no multiples of any vector or tile: every tail runs
P = 0.3
# The error of a sum of K products is at most (K + a few) * eps/2 of the sum of magnitudes; the activation, the scale
# and the bias add a few roundings. So 2 is twice the largest possible error.
C = 2.0


class SelfTestError(Exception):
    """The kernels and the specification disagree; the message is one line."""


def info(verify: bool = False) -> int:
    """Print the installation and the self-test; the last line is SUCCESS or FAILED: <reason>.

    Args:
        verify: verify all CUDA kernels now, on every GPU, whether or not they have been verified before.

    Returns the exit status, 0 or 1. Leaves the instruction set as it was.
    """
    describe()
    failures = report_devices(verify)
    print("self-test      against fusedrop.reference, errors as a share of the bound")
    failures += [line for isa in fd.config.available_isas() if (line := report(isa))]
    print(f"FAILED: {'; '.join(failures)}" if failures else "SUCCESS")
    return 1 if failures else 0


def describe() -> None:
    forced = os.environ.get("FUSEDROP_ISA")
    because = f", FUSEDROP_ISA={forced}" if forced else ""
    print(f"fusedrop       {fd.__version__}")
    print(f"instructions   {fd.config.get_isa()} (available: {', '.join(fd.config.available_isas())}{because})")
    print(f"threads        {fd.config.get_num_threads()}")
    print(f"NumPy          {np.__version__}")
    print(f"Python         {platform.python_version()}, {platform.machine()}")
    print(f"CUDA           {cuda.state()}")


def report_devices(verify: bool) -> list[str]:
    """Print the state of every kernel on every GPU; returns the errors. `verify`: verify all kernels first."""
    failures = []
    devices = verification.devices()
    if verify and not devices:
        failures.append("--verify found no GPU")
    for device in devices:
        print(f"  device {device}     {verification.name_of(device)}")
        for kernel in verification.KERNELS:
            began = time.perf_counter()
            try:
                if verify:
                    verification.verify_again(device, kernel)
            except RuntimeError as error:
                failures.append(str(error))
            seconds = f", {time.perf_counter() - began:.2f} s" if verify else ""
            print(f"    {kernel:20} {verification.state(device, kernel)}{seconds}")
    return failures


def report(isa: str) -> str | None:
    """Print one line on one instruction set; returns its error as a text, or None."""
    chosen = fd.config.get_isa()
    try:
        fd.config.set_isa(isa)
        shares = self_test()
    except Exception as error:  # the user must see any error of a broken build
        wrong = f"{isa}: {str(error) or type(error).__name__}"
        print(f"  {isa:12} {wrong}")
        return wrong
    finally:
        fd.config.set_isa(chosen)
    print(f"  {isa:12} masks equal; " + ", ".join(f"{k} {v:.2f}" for k, v in shares.items()))
    return None


def self_test() -> dict[str, float]:
    """Test the instruction set in use; returns the largest error of y, dx, dw, db over its bound.

    Raises SelfTestError for a mask with one wrong bit or an error above the bound.
    """
    check_mask()
    shares: dict[str, float] = {}
    for dtype in dtypes():
        for name, share in check_layer(dtype).items():
            if not share <= 1:  # written so that NaN fails too
                kind = f"{name} in {dtype}"
                raise SelfTestError(f"{kind}: wanted an error within its bound, got {share:.3g} of it")
            shares[name] = max(shares.get(name, 0.0), share)
    return shares


def dtypes() -> list[np.dtype]:
    """float32, float64, and bfloat16 where its library is installed."""
    found: list[np.dtype] = [np.dtype(np.float32), np.dtype(np.float64)]
    with contextlib.suppress(ImportError):
        import ml_dtypes

        found.append(np.dtype(ml_dtypes.bfloat16))
    return found


def check_mask() -> None:
    """Raise SelfTestError for a wrong mask."""
    rng = fd.Philox(seed=2**63 + 5, stream=3, step=7).at(row0=1000, col0=17)
    for p in (0.0, 0.001, 0.5, 1.0):
        got = fd.dropout_mask((M, N), p=p, rng=rng)
        wrong = int(np.count_nonzero(got != reference.dropout_mask((M, N), p=p, rng=rng)))
        if wrong:
            raise SelfTestError(f"mask at p = {p}: wanted no wrong bit, got {wrong} of {M * N}")


def check_layer(dtype: np.dtype) -> dict[str, float]:
    """A ReLU layer forward and backward: the largest error of each result over its bound."""
    x, w, b, dy = example(dtype)
    rng = fd.Philox(seed=11, stream=1, step=2)
    y, saved = fd.linear_forward(x, w, b, activation="relu", p=P, rng=rng)
    want_y, want_saved = reference.linear_forward(x, w, b, activation="relu", p=P, rng=rng)
    got = (y, *fd.linear_backward(dy, saved))
    want = (want_y, *reference.linear_backward(dy, want_saved))

    scale = reference.scale(P)
    x, w, b, dy = (np.abs(array).astype(np.float64) for array in (x, w, b, dy))
    dz = dy * scale * (want_y > 0)  # an output above 0 was kept, and its z is above 0
    terms_and_sums = {
        "y": (K + 1, scale * (x @ w.T + b)),
        "dx": (N, dz @ w),
        "dw": (M, dz.T @ x),
        "db": (M, dz.sum(axis=0)),
    }
    # bfloat16 is summed in float32; its dz, saved y and results are each rounded to 8 bits, by half a unit
    eps, stored = (np.finfo(dtype).eps, 0.0) if dtype.kind == "f" else (np.finfo(np.float32).eps, 2.0**-7)
    shares = {}
    for (name, (terms, sums)), g, t in zip(terms_and_sums.items(), got, want, strict=True):
        bound = (C * terms * eps + stored) * sums
        error = np.abs(np.asarray(g, np.float64) - t)
        # 0/0 for an empty sum: its result must be exact.
        shares[name] = float(np.max(np.where(error == 0, 0, error / np.maximum(bound, 1e-300))))
    return shares


def example(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x [M,K], w [N,K], b [N], dy [M,N]; with this seed no z is so near 0 that rounding can change its sign."""
    normal = np.random.default_rng(6).standard_normal
    shapes = ((M, K), (N, K), (N,), (M, N))
    x, w, b, dy = (normal(shape).astype(dtype) for shape in shapes)
    return x, w, b, dy
