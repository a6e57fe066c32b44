"""Fixtures: every instruction set of this CPU, forced one after the other, and restored."""

import contextlib

import fusedrop as fd
import pytest

FLOAT_ISAS = ("scalar", "avx2", "avx512")  # avx512_bf16 has kernels of its own for bfloat16 alone


@contextlib.contextmanager
def forced(isa):
    """`isa` in use, and the former one again; on a CPU that lacks it the test is skipped and counted by name."""
    if isa not in fd.available_isas():
        pytest.skip(f"this CPU has no {isa}")
    before = fd.isa()
    fd.use_isa(isa)
    yield isa
    fd.use_isa(before)


@pytest.fixture(params=FLOAT_ISAS)
def isa(request):
    """Runs the test once per instruction set that float32 and float64 know."""
    with forced(request.param) as name:
        yield name


@pytest.fixture(params=(*FLOAT_ISAS, "avx512_bf16"))
def every_isa(request):
    """Runs the test once per instruction set, for what takes bfloat16."""
    with forced(request.param) as name:
        yield name


@pytest.fixture
def threads():
    """Sets the thread count for a test and goes back to the default after it."""
    yield fd.set_num_threads
    fd.set_num_threads(0)
