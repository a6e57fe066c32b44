"""A PyTorch tensor gets other storage between forward and backward: the right gradients, or an error, never a crash."""

import functools
import gc

import fusedrop as fd
import numpy as np
import pytest
from saved_arrays import CASES, IDS, linear, pool

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


class ByProtocol(torch.Tensor):
    """A tensor that is imported by __dlpack__, as all tensors of PyTorch before 2.10."""

    __dlpack_c_exchange_api__ = None


def tensors(subclass=torch.Tensor):
    generator = np.random.default_rng(1)
    return lambda *shape: torch.from_numpy(generator.standard_normal(shape, "float32")).clone().as_subclass(subclass)


@pytest.fixture(params=[torch.Tensor, ByProtocol], ids=["exchange functions", "protocol"])
def normal(request):
    """Makes tensors, always the same ones in the same order."""
    return functools.partial(tensors, request.param)


def reuse_freed_memory():
    gc.collect()
    sizes = (128, 640, 960, 1280, 1920, 2400, 2560, 3072)  # elements of the arrays in saved_arrays
    return [torch.full((size,), float("nan")) for size in sizes for _ in range(8)]


def set_data(t):
    t.data = torch.zeros(3)


def set_other_dtype(t):
    t.data = t.data.double()


def resize_below(t):
    t.resize_(1)


def as_strided(t):
    t.as_strided_((1,), (1,))


REPLACED = [set_data, set_other_dtype, torch.Tensor.set_, resize_below, as_strided]
"""Changes of the tensor object alone. Its storage lives on in the context, and backward is right."""


def resize_above(t):
    t.resize_(50 * t.numel())


def free(t):
    t.untyped_storage().resize_(0)


def free_and_shrink(t):
    """The smaller allocation often has the old address."""
    storage = t.untyped_storage()
    size = storage.nbytes()
    storage.resize_(0)
    storage.resize_(size // 2)


def share(t):
    t.share_memory_()


RESIZED = [resize_above, free, free_and_shrink, share]
"""Changes of the storage itself."""


@pytest.mark.parametrize(("operator", "name"), CASES, ids=IDS)
@pytest.mark.parametrize("change", REPLACED)
def test_a_tensor_with_other_storage_does_not_matter(normal, operator, name, change):
    want = operator(normal()).backward()
    call = operator(normal())
    change(call.arrays[name])
    junk = reuse_freed_memory()
    for g, expected in zip(call.backward(), want, strict=True):
        assert g is expected is None or torch.equal(g, expected)
    assert len(junk) == 64


@pytest.mark.parametrize(("operator", "name"), CASES, ids=IDS)
@pytest.mark.parametrize("change", RESIZED)
def test_resized_storage_is_refused(normal, operator, name, change):
    call = operator(normal())
    refusal = call.refusal(name)
    change(call.arrays[name])
    with pytest.raises(ValueError, match=refusal):
        call.backward()


@pytest.mark.parametrize(("operator", "name"), CASES, ids=IDS)
def test_deleted_tensors_live_in_the_context(normal, operator, name):
    want = operator(normal()).backward()
    call = operator(normal())
    call.arrays.clear()
    junk = reuse_freed_memory()
    assert all(torch.equal(g, w) for g, w in zip(call.backward(), want, strict=True) if g is not w)
    assert len(junk) == 64


def test_a_module_of_another_dtype():
    """The smallest form of the fault: module.double() gives every parameter other storage."""
    module = torch.nn.Linear(4096, 256, bias=False).requires_grad_(False)
    weight = module.weight.clone()
    y, saved = fd.linear_forward(torch.randn(16, 4096), module.weight)
    module.double()
    junk = [torch.full((256, 4096), float("nan")) for _ in range(4)]
    assert torch.equal(fd.linear_backward(y, saved, dw=False)[0], fd.linear(y, weight.T))
    assert torch.equal(saved.w, weight)
    assert len(junk) == 4


def test_views_and_offsets_of_a_larger_storage_are_no_change(normal):
    """The storage holds more than what was kept, and it stays as it is."""
    whole = normal()(70, 45)
    x, w, dy = whole[3:, 5:], normal()(48, 40), normal()(67, 48)
    _, saved = fd.linear_forward(x, w)
    _, copied = fd.linear_forward(x.clone(), w)
    for g, want in zip(fd.linear_backward(dy, saved)[:2], fd.linear_backward(dy, copied)[:2], strict=True):
        assert torch.equal(g, want)


@pytest.mark.parametrize("change", [*REPLACED, *RESIZED])
def test_what_a_context_shows_is_never_freed_memory(normal, change):
    """saved.x, saved.w and saved.saved_activation after the change: tensors of the storage as it is now."""
    call = linear(normal())
    before = [call.saved.x.clone(), call.saved.w.clone(), call.saved.saved_activation.clone()]
    for tensor in call.arrays.values():
        change(tensor)
    shown = [call.saved.x, call.saved.w, call.saved.saved_activation]
    if change in REPLACED:
        assert all(torch.equal(a, b) for a, b in zip(shown, before, strict=True))
    else:
        storages = {t.untyped_storage().data_ptr() for t in call.arrays.values()}
        assert {t.untyped_storage().data_ptr() for t in shown} == storages


@pytest.mark.parametrize("change", [*REPLACED, *RESIZED])
def test_pooling_keeps_no_tensor(normal, change):
    want = pool(normal()).backward()
    call = pool(normal())
    change(call.arrays["x"])
    assert torch.equal(call.backward()[0], want[0])


def test_a_result_has_storage_that_nobody_resizes(normal):
    """Results lie in memory of fusedrop: PyTorch refuses to resize it, and y.data = ... leaves it as it is."""
    x, w, dy = normal()(64, 40), normal()(48, 40), normal()(64, 48)
    y, saved = fd.linear_forward(x, w, activation="relu")
    want = fd.linear_backward(dy, saved)[:2]
    with pytest.raises(RuntimeError, match="not resizable"):
        y.untyped_storage().resize_(0)
    y.data = torch.zeros(1)
    assert all(torch.equal(a, b) for a, b in zip(fd.linear_backward(dy, saved)[:2], want, strict=True))
