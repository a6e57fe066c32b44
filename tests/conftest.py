"""Fixtures: every instruction set of this CPU, forced one after the other, and restored."""

import fusedrop as fd
import pytest

ALL_ISAS = ("scalar", "avx2", "avx512")


@pytest.fixture(params=ALL_ISAS)
def isa(request):
    """Runs the test once per instruction set; those this CPU lacks are skipped and counted by name."""
    if request.param not in fd.available_isas():
        pytest.skip(f"this CPU has no {request.param}")
    before = fd.isa()
    fd.use_isa(request.param)
    yield request.param
    fd.use_isa(before)


@pytest.fixture
def threads():
    """Sets the thread count for a test and goes back to the default after it."""
    yield fd.set_num_threads
    fd.set_num_threads(0)
