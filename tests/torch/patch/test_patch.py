"""A patched model computes the same values, under masks of the contract, and is unchanged in all else."""

import copy
import functools
import logging
import pickle

import fusedrop as fd
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fusedrop.torch as ft  # noqa: E402
from fusedrop.torch import patch, patch_report, unpatch  # noqa: E402
from fusedrop.torch.patch.fused_modules import FusedLinear  # noqa: E402
from torch import nn  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from twins import close, equal, normal, results, same_values, with_masks_of  # noqa: E402

ACTIVATIONS = {
    "none": None,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": functools.partial(nn.GELU, "tanh"),
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def sequence(activation=nn.ReLU, dropout_first=False, p=0.4, inplace=False):
    """Two groups, the second nested, and a Linear that is not in a group."""

    def group(k, n):
        middle = [activation()] if activation is not None else []
        dropout = nn.Dropout(p, inplace)
        return [nn.Linear(k, n), *([dropout, *middle] if dropout_first else [*middle, dropout])]

    torch.manual_seed(1)
    return nn.Sequential(*group(9, 40), nn.Sequential(*group(40, 33)), nn.Linear(33, 4)).double()


class SharedModules(nn.Module):
    """One activation and one dropout module for all groups, as is usual; relu as a function in the first group."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(9, 20), nn.Linear(20, 20), nn.Linear(20, 4)
        self.act, self.drop = nn.SiLU(), nn.Dropout(0.3)

    def forward(self, x):
        x = self.drop(F.relu(self.a(x)))
        x = x + self.drop(self.act(self.b(x)))
        return self.c(x)


@pytest.mark.parametrize("dropout_first", [False, True], ids=["activation first", "dropout first"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_patched_equals_unpatched_under_the_same_masks(activation, dropout_first):
    plain, x = sequence(ACTIVATIONS[activation], dropout_first), normal(7, 9)
    patched = patch(copy.deepcopy(plain))
    for _ in range(2):
        got = results(patched, x)
        same_values(got, results(with_masks_of(patched, plain, rows=7), x))
    assert sum(isinstance(m, FusedLinear) for m in patched.modules()) == 2
    same_values(results(patched.eval(), x), results(plain.eval(), x))


def test_shared_modules_and_functional_relu():
    torch.manual_seed(0)
    plain, x = SharedModules().double(), normal(7, 9)
    patched = patch(copy.deepcopy(plain), seed=5)
    assert [len(group.modules) for group in patch_report(patched).fused] == [2, 3]
    got = results(patched, x)
    same_values(got, results(with_masks_of(patched, plain, rows=7), x))
    assert patched.a.mask_key.rng == fd.Philox(5, 0, 0)
    assert patched.b.mask_key.rng == fd.Philox(5, 1, 0)
    same_values(results(patched.eval(), x), results(plain.eval(), x))


def test_activation_alone_draws_nothing():
    plain, x = nn.Sequential(nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 2), nn.ReLU()).double(), normal(3, 9)
    patched = patch(copy.deepcopy(plain))
    state = torch.get_rng_state()
    same_values(results(patched, x), results(plain, x))
    assert torch.equal(torch.get_rng_state(), state)
    assert not ft.mask_state(patched)


@pytest.mark.parametrize("shape", [(9,), (2, 3, 9), (0, 9)], ids=str)
def test_inputs_of_any_rank(shape):
    plain, x, rows = sequence(), normal(*shape), int(np.prod(shape[:-1]))
    patched = patch(copy.deepcopy(plain))
    got = results(patched, x)
    same_values(got, results(with_masks_of(patched, plain, rows), x))


def test_p_and_training_are_those_of_the_live_dropout():
    patched = patch(nn.Sequential(nn.Linear(9, 64), nn.ReLU(), nn.Dropout(0.5)), seed=3)
    linear, dropout, x = patched[0], patched[2], torch.randn(30, 9)
    for p in (0.5, 0.1, 0, 1.0):
        dropout.p, linear.bias.data[:] = p, 100.0  # so large that only dropout gives a 0
        rng = fd.Philox(3, 0, linear.mask_key.step)
        keep = fd.dropout_mask((30, 64), p=p, rng=rng) if p else np.ones((30, 64), bool)
        assert np.array_equal((patched(x) != 0).numpy(), keep)
    assert linear.mask_key.step == 4
    dropout.eval()
    equal(patched(x), fd_linear(x, linear))
    dropout.train(), linear.eval()
    assert (patched(x) == 0).all()
    dropout.p = 1.5
    with pytest.raises(ValueError, match=r"^p must be"):
        patched(x)


def fd_linear(x, linear):
    return ft.linear(x, linear.weight, linear.bias, activation="relu")


def test_masks_follow_torchs_seed_or_their_own():
    x, patched = normal(5, 9), patch(sequence())
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(patched(x))
    equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    first, second = (patch(sequence(), seed=8) for _ in range(2))
    equal(first(x), second(x))
    assert ft.mask_state(first) == {
        "0": {"seed": 8, "stream": 0, "step": 1},
        "3.0": {"seed": 8, "stream": 1, "step": 1},
    }


def test_shards_draw_their_rows_of_the_mask():
    x = normal(12, 9)
    whole, shards = patch(sequence(), seed=2), [ft.shard_rows(patch(sequence(), seed=2), i, 3) for i in range(3)]
    equal(torch.cat([shard(x[4 * i : 4 * i + 4]) for i, shard in enumerate(shards)]), whole(x))


def test_it_is_the_same_model():
    """Parameters, names, state_dict, isinstance, hooks before and after the group, and an optimizer made earlier."""
    model, x = sequence(), normal(6, 9)
    plain, seen = copy.deepcopy(model), []
    model[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model[2].register_forward_hook(lambda _, args, y: seen.append(y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before, types = dict(model.named_parameters()), [type(m) for m in model.modules()]
    names, state = [n for n, _ in model.named_modules()], model.state_dict()
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    assert patch(model) is model
    assert all(after is before[name] for name, after in model.named_parameters())
    assert [n for n, _ in model.named_modules()] == names
    assert all(isinstance(m, kind) for m, kind in zip(model.modules(), types, strict=True))
    for m, (forward, pre) in zip(model.modules(), hooks, strict=True):
        assert m._forward_hooks is forward
        assert m._forward_pre_hooks is pre
    assert list(model.state_dict()) == list(state)
    plain.load_state_dict(model.state_dict())

    y = model(x)
    equal(seen[0], x)
    close(seen[1], with_masks_of(model, plain, 6)[:3](x))
    y.sum().backward()
    expected = with_masks_of(model, plain, 6)
    expected(x).sum().backward()
    optimizer.step()
    torch.optim.SGD(expected.parameters(), lr=0.5).step()
    same_values(list(model.parameters()), list(expected.parameters()))


def snapshot(model):
    """Each module's class and attributes. Dicts (of parameters, hooks, children) are copied."""

    def attributes(module):
        return {key: dict(v) if isinstance(v, dict) else v for key, v in module.__dict__.items()}

    return [(type(module), attributes(module)) for module in model.modules()]


def same_snapshot(got, want):
    for (kind, attributes), (other, others) in zip(got, want, strict=True):
        assert kind is other
        assert list(attributes) == list(others)
        for key, value in attributes.items():
            assert value is others[key] or value == others[key], key


@pytest.mark.parametrize(
    "make",
    [
        sequence,
        SharedModules,
        lambda: nn.Transformer(8, 2, 1, 1, 16, activation=F.gelu, batch_first=True),
        lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=nn.GELU()),
        lambda: nn.Conv2d(1, 1, 1),
    ],
    ids=["sequence", "shared", "transformer", "layer", "nothing"],
)
def test_unpatch_restores_everything(make):
    model = make()
    before = snapshot(model)
    assert unpatch(model) is model
    same_snapshot(snapshot(model), before)
    for _ in range(2):
        patch(model, seed=1)
        assert model.__dict__.keys() - before[0][1].keys() == {"fusedrop_patch_report"}
        unpatch(model)
        same_snapshot(snapshot(model), before)


def test_patching_twice_changes_nothing():
    model, x = patch(sequence(), seed=4), normal(5, 9)
    model(x)
    state, report, masks = snapshot(model), patch_report(model), ft.mask_state(model)
    patch(model, seed=9)
    assert patch_report(model) == report
    assert ft.mask_state(model) == masks
    model.fusedrop_patch_report = report
    same_snapshot(snapshot(model), state)
    model.append(nn.ReLU())
    assert len(patch_report(patch(model)).fused) == len(report.fused) + 1


def test_unpatch_refuses_a_linear_that_was_parametrized_after_patch():
    model = patch(sequence())
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match="0 is now a ParametrizedFusedLinear"):
        unpatch(model)
    nn.utils.parametrize.remove_parametrizations(model[0], "weight")
    assert type(unpatch(model)[0]) is nn.Linear


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", [sequence, SharedModules, lambda: nn.TransformerEncoderLayer(9, 3, 16)])
@pytest.mark.parametrize("seed", [None, 6])
def test_copies_continue_alike_and_independently(make, seed, copied):
    model, x = patch(make().double(), seed=seed), normal(4, 9)
    model(x)
    twin = copied(model)
    assert patch_report(twin) == patch_report(model)
    drawn = []
    for m in (model, twin):
        torch.manual_seed(3)
        drawn.append(results(m, x))
    same_values(*drawn, check=equal)
    twin.eval()
    assert model.training
    same_values(results(twin, x), results(unpatch(copy.deepcopy(twin)), x))
    assert not any(isinstance(m, FusedLinear) for m in unpatch(twin).modules())
    assert any(isinstance(m, FusedLinear) for m in model.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_to_another_dtype_and_autocast(dtype):
    model, x = patch(sequence(), seed=1), normal(5, 9)
    want = model(x)
    eps = torch.finfo(dtype).eps
    near = {"rtol": 0, "atol": 32 * eps}  # outputs below 1, from three roundings of values and weights below 4
    other = patch(sequence(), seed=1).to(dtype)
    assert other(x.to(dtype)).dtype is dtype
    ft.assign_mask_keys(other, 1)
    torch.testing.assert_close(other(x.to(dtype)).double(), want, **near)
    if dtype is torch.bfloat16:
        cast = patch(sequence(), seed=1).float()
        with torch.autocast("cpu", dtype=dtype):
            y = cast(x.float())
        assert y.dtype is dtype
        torch.testing.assert_close(y.double(), want, **near)


@pytest.mark.parametrize("inplace", [False, True])
def test_inplace_modules(inplace):
    plain, x = sequence(functools.partial(nn.ReLU, inplace=inplace), inplace=inplace), normal(6, 9)
    patched = patch(copy.deepcopy(plain))
    got = results(patched, x)
    same_values(got, results(with_masks_of(patched, plain, rows=6), x))


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("make", [sequence, SharedModules])
def test_compiled_without_graph_breaks_or_recompiling(make, seed):
    torch.manual_seed(0)
    plain, x = make().double(), normal(6, 9)
    eager, compiled = (patch(copy.deepcopy(plain), seed=seed) for _ in range(2))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(compiled, backend=counter, fullgraph=True)
    torch.manual_seed(5)
    want = [results(eager, x) for _ in range(4)]
    torch.manual_seed(5)
    for step in want:
        y = call(x)
        equal(y, step[0])
        dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        same_values(torch.autograd.grad(y, list(compiled.parameters()), dy), step[2:])
    assert counter.frame_count == 1
    same_values([call.eval()(x)], [plain.eval()(x)])


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("seed", [None, 7])
def test_checkpoint_repeats_the_masks(seed, reentrant):
    x, drawn = normal(6, 9), []
    for call in (lambda m, x: m(x), functools.partial(checkpoint, use_reentrant=reentrant)):
        model = patch(sequence(), seed=seed)
        torch.manual_seed(2)
        ys = [call(model, x.clone().requires_grad_()) for _ in range(2)]
        for y in reversed(ys):
            y.square().sum().backward()
        drawn.append([*ys, *(p.grad for p in model.parameters())])
    same_values(*drawn, check=equal)


def test_distributed_data_parallel():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        alone, inner, x = patch(sequence(), seed=1), patch(sequence(), seed=1), normal(4, 9)
        parallel = nn.parallel.DistributedDataParallel(inner)
        assert patch_report(parallel) == patch_report(alone)
        for _ in range(2):
            for model in (parallel, alone):
                model(x).square().sum().backward()
        same_values([p.grad for p in parallel.parameters()], [p.grad for p in alone.parameters()], check=equal)
    finally:
        torch.distributed.destroy_process_group()


def test_errors_name_the_bad_argument():
    for function in (patch, unpatch, patch_report):
        with pytest.raises(TypeError, match=r"^model must be a torch.nn.Module; got int"):
            function(3)
    with pytest.raises(ValueError, match=r"^model must have been patched"):
        patch_report(sequence())
    model = sequence()
    before = snapshot(model)
    with pytest.raises((TypeError, ValueError), match="seed"):
        patch(model, seed=-1)
    same_snapshot(snapshot(model), before)


def test_the_report_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="fusedrop.torch"):
        model = patch(nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10)))
    assert caplog.messages == str(patch_report(model)).splitlines()
    assert caplog.messages == [
        "0, 1, 2: Linear(784, 256) + ReLU + Dropout(0.2)",
        "3: Linear(256, 10): left alone, no activation or dropout follows",
    ]
