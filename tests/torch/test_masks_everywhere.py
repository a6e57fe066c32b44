"""One key is one mask: eager, compiled, checkpointed, accumulated, copied, resumed."""

import copy
import io
import pickle

import fusedrop as fd
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402

SEEDS = [None, 7]
STEPS = 4


def network(seed):
    """A network of all modules that draw masks, always with the same weights."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        ft.Linear(20, 30, activation="relu", p=0.5),
        ft.Dropout(0.3),
        ft.Linear(30, 24, activation="gelu", p=0.2, input_p=0.1, dropout_first=True),
        torch.nn.Unflatten(1, (3, 8)),
        ft.Dropout1d(0.4),
        torch.nn.Flatten(),
        ft.Linear(24, 4),
    )
    return ft.assign_mask_keys(net, seed)


def batches():
    return torch.from_numpy(np.random.default_rng(1).standard_normal((STEPS, 16, 20), np.float32))


def run(call, net):
    """Outputs and gradients of some steps. torch's generator starts from one seed."""
    torch.manual_seed(5)
    record = []
    for x in batches():
        net.zero_grad()
        y = call(x.requires_grad_())
        y.square().sum().backward()
        record.append([y.detach(), x.grad, *(p.grad for p in net.parameters())])
    return record


def assert_same(got, want):
    for step, (a, b) in enumerate(zip(got, want, strict=True)):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True)), f"step {step}"


def test_masks_are_the_contracts():
    """Layer i of a seeded network draws (seed, stream i, step): the first layer's zeros are exactly that mask's."""
    net = network(7)
    net[0].activation = "sigmoid"  # never 0 by itself
    for step, x in enumerate(batches()):
        keep = fd.dropout_mask((16, 30), p=0.5, rng=fd.Philox(7, 0, step))
        assert np.array_equal(net[0](x).detach().numpy() != 0, keep)
        assert net[0].mask_key.rng == fd.Philox(7, 0, step)


def test_channel_masks_are_the_contracts():
    drop = ft.Dropout2d(0.4, seed=7, stream=3)
    y = drop(torch.ones(16, 9, 5, 4))
    keep = fd.dropout_mask((16, 9), p=0.4, rng=fd.Philox(7, 3, 0))
    assert np.array_equal(y.numpy() != 0, np.broadcast_to(keep[:, :, None, None], y.shape))


@pytest.mark.parametrize("seed", SEEDS)
def test_eager_repeats(seed):
    first, second = network(seed), network(seed)
    want = run(first, first)
    assert_same(run(second, second), want)
    assert not torch.equal(first(batches()[0]), first(batches()[0]))  # a new mask each step


@pytest.mark.parametrize("fullgraph", [True, False], ids=["fullgraph", "default"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("seed", SEEDS)
def test_compiled_draws_eagers_masks_without_compiling_again(seed, backend, fullgraph):
    torch.compiler.reset()
    eager, compiled = network(seed), network(seed)
    counter = CompileCounterWithBackend(backend)
    call = torch.compile(compiled, backend=counter, fullgraph=fullgraph)
    want, got = run(eager, eager), run(call, compiled)
    assert counter.frame_count == 1  # one whole graph for all steps
    assert compiled[0].mask_key.step == STEPS
    for (y, *gradients), (y_compiled, *gradients_compiled) in zip(want, got, strict=True):
        assert torch.equal(y, y_compiled)  # the kernels are the same, and do nearly all the arithmetic
        for a, b in zip(gradients, gradients_compiled, strict=True):
            torch.testing.assert_close(a, b)  # inductor may order its own sums differently


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("seed", SEEDS)
def test_recomputation_repeats_its_step(seed, reentrant):
    plain, net = network(seed), network(seed)
    want = run(plain, plain)
    assert_same(run(lambda x: checkpoint(net, x, use_reentrant=reentrant), net), want)
    assert net[0].mask_key.step == STEPS  # recomputations are not counted


@pytest.mark.parametrize("seed", SEEDS)
def test_recomputations_in_any_order(seed):
    """Several forward calls come before the first backward pass, as in accumulation and pipelines."""
    plain, net = network(seed), network(seed)
    want = run(plain, plain)
    torch.manual_seed(5)
    inputs = [x.requires_grad_() for x in batches()]
    outputs = [checkpoint_sequential(net, 3, x, use_reentrant=False) for x in inputs]
    for i in (2, 0, 3, 1):
        gradients = torch.autograd.grad(outputs[i].square().sum(), [inputs[i], *net.parameters()])
        assert_same([[outputs[i], *gradients]], [want[i]])


def test_nested_checkpoints():
    plain, net = network(7), network(7)

    def nested(x):
        return checkpoint(lambda h: checkpoint(net[1:], h, use_reentrant=False), net[0](x), use_reentrant=False)

    assert_same(run(lambda x: checkpoint(nested, x, use_reentrant=False), net), run(plain, plain))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_recomputation_that_cannot_be_identified_is_refused(seed):
    net = network(seed)
    x = batches()[0].requires_grad_()
    y = checkpoint(net, x, use_reentrant=False, preserve_rng_state=False)
    with pytest.raises(RuntimeError, match="preserve_rng_state=True"):
        y.sum().backward()


def test_gradient_accumulation():
    """Two forward calls, then their backward passes: each with its own mask, and the sum of both gradients."""
    plain, net = network(7), network(7)
    want = run(plain, plain)[:2]
    torch.manual_seed(5)
    sum(net(x).square().sum() for x in batches()[:2]).backward()
    for i, parameter in enumerate(net.parameters()):
        torch.testing.assert_close(parameter.grad, want[0][i + 2] + want[1][i + 2])


def test_following_torchs_generator():
    net, x = network(None), batches()[0]
    torch.manual_seed(3)
    first, second = net(x), net(x)
    torch.manual_seed(3)
    assert torch.equal(net(x), first)
    state = torch.get_rng_state()
    third = net(x)
    torch.set_rng_state(state)
    assert torch.equal(net(x), third)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(net(x), first)
    assert not torch.equal(first, second)


def test_a_given_seed_does_not_follow_the_generator():
    net, x = network(7), batches()[0]
    torch.manual_seed(3)
    first = net(x)
    torch.manual_seed(3)
    assert not torch.equal(net(x), first)
    other = network(7)
    torch.manual_seed(99)
    assert torch.equal(other(x), first)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_continues_from_the_same_step(seed, copied):
    net = network(seed)
    net(batches()[0])
    other = copied(net)
    assert_same(run(other, other), run(net, net))
    other(batches()[0])
    assert (net[0].mask_key.step, other[0].mask_key.step) == (STEPS + 1, STEPS + 2)  # they share nothing


@pytest.mark.parametrize("seed", SEEDS)
def test_a_resumed_run_continues_exactly(seed):
    net = network(seed)
    torch.manual_seed(5)
    for x in batches()[:2]:
        net(x)
    file = io.BytesIO()
    state = {"net": net.state_dict(), "masks": ft.mask_state(net), "generator": torch.get_rng_state()}
    torch.save(state, file)
    want = [net(x) for x in batches()[2:]]

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = network(None if seed is None else 1234)
    resumed.load_state_dict(saved["net"])
    ft.load_mask_state(resumed, saved["masks"])
    torch.set_rng_state(saved["generator"])
    assert all(torch.equal(resumed(x), y) for x, y in zip(batches()[2:], want, strict=True))


def test_state_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"it lacks \['1'\] and has besides \['9'\]"):
        ft.load_mask_state(torch.nn.Sequential(ft.Dropout(), ft.Dropout()), {"0": {}, "9": {}})


@pytest.mark.parametrize("entry", [{"seed": 1}, [1], {"seed": 1, "stream": 0, "step": -1}])
def test_a_bad_entry_changes_nothing(entry):
    net = torch.nn.Sequential(ft.Dropout(seed=5), ft.Dropout(seed=5))
    with pytest.raises((ValueError, TypeError), match=r"state\['1'\] must have|step must be"):
        ft.load_mask_state(net, {"0": {"seed": 1, "stream": 2, "step": 3}, "1": entry})
    assert net[0].mask_key.seed == 5


def test_row_shards_are_rows_of_the_global_mask():
    whole = network(7)
    want = whole(batches()[0])
    for index in range(4):
        part = ft.shard_rows(network(7), index, 4)
        rows = slice(4 * index, 4 * index + 4)
        assert torch.equal(part(batches()[0][rows]), want[rows])
        assert part[0].mask_key.rng == fd.Philox(7, 0, 0).at(row0=4 * index)


class Workers(torch.utils.data.Dataset):
    """Dropout as augmentation, inside the workers of a DataLoader."""

    def __init__(self):
        self.drop = ft.Dropout(0.5)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.drop(torch.ones(64))


def test_workers_of_a_loader_draw_different_masks():
    def epoch():
        torch.manual_seed(0)
        return list(torch.utils.data.DataLoader(Workers(), batch_size=1, num_workers=2))

    first, again = epoch(), epoch()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(row.flatten().tolist()) for row in first}) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_one_module_called_twice_in_one_graph(seed):
    """Two calls are two masks, also in compiled code with gradients, where the compiler merges equal expressions."""

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ft.Linear(20, 20, p=0.5)

        def forward(self, x):
            return self.layer(x), self.layer(x)

    torch.compiler.reset()
    twice = ft.assign_mask_keys(Twice(), seed)
    x = batches()[0]
    torch.manual_seed(5)
    want = twice(x)
    compiled = torch.compile(ft.assign_mask_keys(twice, seed), backend="inductor", fullgraph=True)
    torch.manual_seed(5)
    got = compiled(x)
    (got[0].sum() + got[1].sum()).backward()
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert not torch.equal(got[0], got[1])
