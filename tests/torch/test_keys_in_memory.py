"""Modules whose seed and step are in memory (`mask_key.store_on`): the same masks, counted and repeated alike."""

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402


def masks_of(module, calls):
    x = torch.ones(30, 40)
    return [module(x) != 0 for _ in range(calls)]


def test_the_same_masks_as_by_value():
    want = masks_of(ft.Dropout(0.5, seed=2**63 + 9, stream=4), 5)
    module = ft.Dropout(0.5, seed=2**63 + 9, stream=4)
    got = masks_of(module, 2)
    module.mask_key.store_on("cpu")
    got += masks_of(module, 3)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert module.mask_key.step == 5


def test_without_a_seed_torchs_generator_gives_one():
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        module = ft.Dropout(0.5)
        module.mask_key.store_on("cpu")
        runs.append(masks_of(module, 2))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(*runs[0])


def test_calls_without_a_mask_count():
    module = ft.Linear(40, 20, p=0.5, seed=3, stream=1)
    module.mask_key.store_on("cpu")
    x = torch.ones(6, 40)
    module(x)
    module.p = 0.0
    module(x)
    assert module.mask_key.step == 2
    module.eval()
    module(x)
    assert module.mask_key.step == 2


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_recomputation_repeats_its_mask(use_reentrant):
    module = ft.Linear(40, 20, p=0.5, activation="gelu", seed=3, stream=1)
    gradients = []
    for recomputed in (False, True):
        module.mask_key.place(3, 1, 0)
        module.mask_key.store_on("cpu")
        torch.manual_seed(1)
        x = torch.randn(6, 40, requires_grad=True)
        for _ in range(2):
            y = checkpoint(module, x, use_reentrant=use_reentrant) if recomputed else module(x)
            y.square().sum().backward()
        gradients.append(x.grad)
        assert module.mask_key.step == 2
    assert torch.equal(*gradients)


def test_compiled_code_is_refused():
    module = ft.Dropout(0.5, seed=3)
    module.mask_key.store_on("cpu")
    with pytest.raises(Exception, match="can't be compiled"):
        torch.compile(module, backend="eager", fullgraph=True)(torch.ones(3, 4))


def test_functions_take_a_key_in_memory(monkeypatch):
    """As the operators' argument `drawn`. On the CPU, which has no DevicePhilox, it is read as integers."""
    x = torch.ones(5, 40)
    drawn = torch.tensor([7, 2])
    y = torch.ops.fusedrop.dropout(x, 0.5, 0, 3, 0, 0, 0, 1, 0, drawn, "element", "inverted")
    assert torch.equal(y, ft.dropout(x, p=0.5, rng=fd.Philox(7, 3, 2)))
