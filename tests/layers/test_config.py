"""fusedrop.config: every setting is a pair of functions, and none of them changes a mask."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import cuda

RNG = fd.Philox(seed=1, stream=2, step=3)
SETTINGS = ("isa", "num_threads", "tf32")


def test_every_setting_is_a_pair():
    assert set(fd.config.__all__) == {f"{verb}_{name}" for verb in ("get", "set") for name in SETTINGS} | {
        "available_isas"
    }
    assert all(callable(getattr(fd.config, name)) for name in fd.config.__all__)


def test_what_was_set_is_what_is_got(threads):
    was = fd.config.get_isa()
    try:
        for isa in fd.config.available_isas():
            fd.config.set_isa(isa)
            assert fd.config.get_isa() == isa
    finally:
        fd.config.set_isa(was)
    for count in (1, 2, 5):
        threads(count)
        assert fd.config.get_num_threads() == count


def test_no_setting_changes_a_mask(every_isa, threads):
    want = fd.reference.dropout_mask((40, 100), p=0.3, rng=RNG)
    for count in (1, 3):
        threads(count)
        assert np.array_equal(fd.dropout_mask((40, 100), p=0.3, rng=RNG), want)


def test_tf32_is_off_and_needs_the_cuda_module(monkeypatch):
    if cuda.module() is None:
        assert fd.config.get_tf32() is False
        with pytest.raises(RuntimeError, match=r"^set_tf32 needs the CUDA module"):
            fd.config.set_tf32(True)
    monkeypatch.setattr(cuda, "module", lambda: None)
    assert fd.config.get_tf32() is False


def test_settings_are_not_at_the_top():
    for name in ("get_isa", "set_isa", "get_tf32", "set_tf32", "set_num_threads", "SGD", "Trainer"):
        assert not hasattr(fd, name)
