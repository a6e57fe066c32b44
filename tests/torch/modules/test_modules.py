"""Construction, copies, conversion, hooks and contexts of the modules, as PyTorch tests them."""

import copy
import io
import pickle
import threading

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

MAKERS = {
    "Linear": lambda **key: ft.Linear(6, 6, activation="silu", p=0.5, input_p=0.2, **key),
    "Dropout": lambda **key: ft.Dropout(0.5, **key),
    "Dropout1d": lambda **key: ft.Dropout1d(0.5, **key),
    "Dropout2d": lambda **key: ft.Dropout2d(0.5, **key),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
seeds = pytest.mark.parametrize("key", [{}, {"seed": 3, "stream": 1}], ids=["generator", "seed"])


def inputs():
    return torch.arange(1.0, 145.0).reshape(4, 6, 6) / 100


def called(module, x=None):
    torch.manual_seed(11)
    return module(inputs() if x is None else x)


def by_pickle(module):
    return pickle.loads(pickle.dumps(module))


def by_torch_save(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@makers
@seeds
@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_torch_save])
def test_copies_draw_the_same_masks_and_count_independently(make, key, copied):
    module = make(**key)
    called(module)
    twin = copied(module)
    assert repr(twin) == repr(module)
    assert torch.equal(called(module), called(twin))
    called(twin)
    assert (module.mask_key.step, twin.mask_key.step) == (2, 3)


@pytest.mark.parametrize("make", [ft.Linear, torch.nn.Linear])
def test_meta_construction_to_empty_and_skip_init(make):
    module = make(6, 3, device="meta")
    assert module(torch.empty(2, 6, device="meta")).shape == (2, 3)
    assert module.to_empty(device="cpu").weight.device.type == "cpu"
    assert torch.nn.utils.skip_init(make, 6, 3)(torch.ones(2, 6)).shape == (2, 3)


@makers
def test_another_default_device_still_uses_the_cpu_generator(make):
    module, x = make(), inputs()
    torch.manual_seed(11)
    with torch.device("meta"):
        assert make()(torch.empty(4, 6, 6)).device.type == "meta"
        y = module(x)
    following = torch.rand(())
    torch.manual_seed(11)
    for _ in range(2):
        torch.empty((), dtype=torch.int64).random_()
    assert torch.rand(()) == following
    assert y.device.type == "cpu"


@makers
@seeds
def test_fake_tensors_have_shapes_and_draw_and_count_nothing(make, key):
    module, before = make(**key), torch.get_rng_state()
    with FakeTensorMode() as mode:
        within = make(**key)
        assert within(torch.empty(4, 6, 6)).shape == (4, 6, 6)
        if not list(module.parameters()):
            assert module(mode.from_tensor(torch.empty(4, 6, 6))).shape == (4, 6, 6)
    assert torch.equal(torch.get_rng_state(), before)
    assert within.mask_key.step == module.mask_key.step == 0


def test_conversions():
    layer = ft.Linear(6, 6, p=0.5, seed=1, stream=0)
    for dtype in (torch.float64, torch.bfloat16, torch.float32):
        layer.to(dtype)
        layer.mask_key.place(1, 0, 0)
        y = layer(inputs().to(dtype))
        assert y.dtype == dtype
        assert torch.equal(
            (y != 0).flatten(0, 1), torch.from_numpy(fd.dropout_mask((24, 6), p=0.5, rng=layer.mask_key.rng))
        )
    with pytest.raises(TypeError, match=r"^x must be .* float32, float64 or bfloat16; got torch.float16"):
        layer.half()(inputs().half())


@makers
@seeds
def test_inference_mode_anywhere(make, key):
    with torch.inference_mode():
        module = make(**key)
        twin = copy.deepcopy(module)
        assert called(module).is_inference()
    for m in (module, twin):
        with torch.no_grad():  # parameters made in inference mode can't be saved for backward, as in torch
            called(m)
    assert (module.mask_key.step, twin.mask_key.step) == (2, 1)


@makers
def test_functional_call_and_hooks(make):
    module, seen = make(seed=3, stream=1), []
    module.register_forward_hook(lambda m, args, y: seen.append("forward"))
    module.register_full_backward_hook(lambda m, dx, dy: seen.append("backward"))
    x = inputs().requires_grad_()
    doubled = {n: 2 * p for n, p in module.named_parameters()}
    y = torch.func.functional_call(module, doubled, (x,))
    y.sum().backward()
    assert seen == ["forward", "backward"]
    assert x.grad.abs().sum() > 0
    if doubled:
        module.mask_key.place(3, 1, 0)
        with torch.no_grad():
            module.weight.mul_(2)
            module.bias.mul_(2)
        assert torch.equal(module(inputs()), y)


def test_shared_parameters():
    first, second = ft.Linear(6, 6, p=0.5), ft.Linear(6, 6, activation="tanh")
    second.weight = first.weight
    model = torch.nn.Sequential(first, second)
    assert len(list(model.parameters())) == 3
    model(inputs()).sum().backward()
    both = first.weight.grad.clone()
    assert both.abs().sum() > 0
    assert second.weight.grad is first.weight.grad


def test_parametrized_weights():
    layer = ft.Linear(6, 6, p=0.5)
    torch.nn.utils.parametrizations.weight_norm(layer)
    layer(inputs()).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_autocast_gives_the_dtypes_of_torch_nn_linear(dtype, bias):
    kinds = []
    for make in (ft.Linear, torch.nn.Linear):
        layer, x = make(6, 6, bias, dtype=dtype), inputs().to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        y.sum().backward()
        kinds.append([y.dtype, x.grad.dtype, *(p.grad.dtype for p in layer.parameters())])
    assert kinds[0] == kinds[1]
    assert kinds[0][0] == (torch.float64 if dtype == torch.float64 else torch.bfloat16)


def test_autocast_preserves_the_residual_streams_precision():
    layer = ft.Linear(6, 6, p=0.5, seed=1, stream=0)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(inputs(), residual=inputs())
        layer.mask_key.place(1, 0, 0)
        assert torch.equal(y, inputs() + layer(inputs()))
    assert y.dtype == torch.float32


def test_threads_that_share_a_module_never_share_a_step():
    module = ft.Dropout(0.5, seed=1)
    seen = []

    def work():
        for _ in range(200):
            seen.append(module.mask_key.calls.next_call()[1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(800))


def test_the_last_step():
    module = ft.assign_mask_keys(ft.Dropout(0.5), seed=1, step=2**32 - 1)
    module(inputs())
    with pytest.raises((ValueError, RuntimeError), match=r"step must be in \[0, 4294967295\]; got 4294967296"):
        module(inputs())


def test_extra_repr_lists_what_is_not_the_default():
    assert repr(ft.Linear(6, 3)) == repr(torch.nn.Linear(6, 3))
    layer = ft.Linear(
        6,
        3,
        False,
        activation="relu",
        p=0.5,
        dropout_first=True,
        input_p=0.25,
        granularity="unit",
    )
    assert layer.extra_repr() == (
        "in_features=6, out_features=3, bias=False, activation='relu', p=0.5, dropout_first=True, "
        "input_p=0.25, granularity='unit'"
    )


def test_tensor_subclasses():
    class Tagged(torch.Tensor):
        pass

    w = torch.nn.Parameter(torch.ones(3, 6).as_subclass(Tagged))
    y = ft.linear(inputs().as_subclass(Tagged), w, torch.ones(3), p=0.5, rng=fd.Philox(1))
    assert type(y) is Tagged
    y.sum().backward()
    assert torch.equal(
        torch.Tensor(y.detach()), ft.linear(inputs(), torch.ones(3, 6), torch.ones(3), p=0.5, rng=fd.Philox(1))
    )
    assert w.grad.shape == w.shape
