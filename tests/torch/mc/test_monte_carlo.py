"""mc_dropout against a plain loop over the functions, with one mask key for each sample."""

import weakref

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fusedrop as fd  # noqa: E402
import fusedrop.torch as ft  # noqa: E402
from fusedrop.torch import functional  # noqa: E402
from fusedrop.torch.mc import monte_carlo  # noqa: E402
from torch import nn  # noqa: E402

SEED, SAMPLES, R = 7, 12, 5


def rng(stream, sample, rows=R, step=0):
    return fd.Philox(SEED, stream, step, row0=sample * rows)


def call(x, module, stream, sample, residual=None, step=0):
    """What a fusedrop Linear computes for one sample, computed by the function."""
    return ft.linear(
        x,
        module.weight,
        module.bias,
        activation=module.activation,
        p=module.p,
        rng=rng(stream, sample, x[..., 0].numel(), step),
        dropout_first=module.dropout_first,
        input_p=module.input_p,
        residual=residual,
    )


def mlp(**options):
    first = ft.Linear(16, 32, activation="relu", p=0.2, **options)
    return nn.Sequential(first, ft.Linear(32, 32, activation="gelu", p=0.5), ft.Linear(32, 3))


def mlp_call(net, x, sample):
    for stream, module in enumerate(net):
        x = call(x, module, stream, sample)
    return x


class Wrapped(nn.Module):
    """Hides a model's structure, so that it is no Sequential."""

    def __init__(self, model, before=torch.clone):
        super().__init__()
        self.model, self.before = model, before

    def forward(self, x):
        return self.model(self.before(x))


class Block(nn.Module):
    """Two Linears with one input x, residuals, and a second call of the first Linear."""

    def __init__(self):
        super().__init__()
        self.a = ft.Linear(16, 16, activation="gelu", p=0.4)
        self.b = ft.Linear(16, 16, activation="tanh", p=0.3, dropout_first=True)

    def forward(self, x):
        return self.a(self.b(x, residual=self.a(x)), residual=x)


# Each case: a model, x, and a function from a sample's number to its prediction.


def tokens():
    net, x = mlp(), torch.randn(R, 4, 16)
    return net, x, lambda s: mlp_call(net, x, s)


def dropout_first():
    net, x = mlp(dropout_first=True), torch.randn(R, 16)
    return net, x, lambda s: mlp_call(net, x, s)


def input_p():
    net, x = mlp(input_p=0.3), torch.randn(R, 16)
    return net, x, lambda s: mlp_call(net, x, s)


def any_module():
    net, x = mlp(), torch.randn(R, 16)
    return Wrapped(net), x, lambda s: mlp_call(net, x, s)


def residuals_and_a_second_call():
    block, x = Block(), torch.randn(R, 16)

    def sample(s):
        h = call(x, block.b, 1, s, residual=call(x, block.a, 0, s))
        return call(h, block.a, 0, s, residual=x, step=1)

    return block, x, sample


def in_place():
    net = nn.Sequential(ft.Linear(16, 16), nn.Sequential(nn.ReLU(inplace=True), ft.Dropout(0.5, inplace=True)))
    x = torch.randn(R, 16)
    h = net[0](x).relu()
    return net, x, lambda s: ft.dropout(h, p=0.5, rng=rng(1, s))


def in_place_on_x():
    x = torch.randn(R, 16)
    original = x.clone()
    return ft.Dropout(0.5, inplace=True), x, lambda s: ft.dropout(original, p=0.5, rng=rng(0, s))


def channels():
    net, x = nn.Sequential(nn.Conv2d(2, 6, 3), ft.Dropout2d(0.5)), torch.randn(R, 2, 8, 8)
    h = net[0](x)
    return net, x, lambda s: h * (2 * ft.dropout(torch.ones(R, 6), p=0.5, rng=rng(0, s)) / 2)[:, :, None, None]


def unit():
    first, last = ft.Linear(16, 32, activation="relu", p=0.5, granularity="unit"), ft.Linear(32, 3)
    x = torch.randn(R, 16)
    options = {"activation": "relu", "p": 0.5, "granularity": "unit"}

    def sample(s):
        return last(ft.linear(x, first.weight, first.bias, rng=fd.Philox(SEED, 0, step=s), **options))

    return nn.Sequential(first, last), x, sample


def one_example():
    net, x = mlp(), torch.randn(16)
    return net, x, lambda s: mlp_call(net, x, s)


CASES = [
    tokens,
    dropout_first,
    input_p,
    any_module,
    residuals_and_a_second_call,
    in_place,
    in_place_on_x,
    channels,
    unit,
    one_example,
]


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    torch.manual_seed(0)
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("batch", [None, 1, 5, 12])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@torch.no_grad()
def test_it_equals_the_plain_loop(case, batch, dtype):
    model, x, sample = case()
    got = ft.mc_dropout(model, x.clone(), SAMPLES, seed=SEED, batch=batch, progress=False)
    ys = [sample(s) for s in range(SAMPLES)]
    moments = monte_carlo.Moments()
    for y in ys:
        moments.add(y)
    assert torch.equal(got.mean, moments.prediction().mean), "each sample must have the bits of its own call"
    assert torch.equal(got.std, moments.prediction().std)
    assert got.mean.dtype == got.std.dtype == dtype
    std, mean = torch.std_mean(torch.stack(ys).double(), 0)
    # float32: one rounding at the end; float64: SAMPLES additions in another order, and their condition.
    close = {"rtol": 2**-23, "atol": 0} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(got.mean.double(), mean, **close)
    torch.testing.assert_close(got.std.double(), std, **close)


def test_bfloat16_equals_the_plain_loop_within_a_rounding():
    """The cached product is rounded before its dropout, which the kernel does not do."""
    net = nn.Sequential(ft.Linear(16, 32, activation="gelu", p=0.3)).bfloat16()
    x = torch.randn(R, 16).bfloat16()
    got = ft.mc_dropout(net, x, SAMPLES, seed=SEED, progress=False)
    ys = torch.stack([call(x, net[0], 0, s) for s in range(SAMPLES)]).double()
    assert got.mean.dtype is torch.bfloat16
    # Two roundings of 2^-8 against one, and that of the mean. All samples of an element that are not 0 are equal.
    torch.testing.assert_close(got.mean.double(), ys.mean(0), rtol=4 * 2**-8, atol=0)


def test_moments_are_stable():
    """A spread of 1e-6 around a mean of 1e6: a sum of squares would lose it completely."""
    ys = 1e6 + 1e-6 * torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments = monte_carlo.Moments()
    for y in ys:
        moments.add(y)
    # An ulp of 1e6 is 1e-10, so each deviation is right to about 1e-4.
    torch.testing.assert_close(moments.prediction().std, ys.std(0), rtol=1e-4, atol=0)


def products(monkeypatch, model, x, batch):
    """The number of rows of each product [.., 16] w1ᵀ that a call computes."""
    rows = []

    def counted(x, w, *rest):
        rows.extend([x.shape[0]] if w.shape[1] == 16 else [])
        return eager_linear(x, w, *rest)

    eager_linear = functional.eager_linear
    monkeypatch.setattr(functional, "eager_linear", counted)
    ft.mc_dropout(model, x, SAMPLES, batch=batch, progress=False)
    return rows


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("wrap", [nn.Sequential, Wrapped], ids=["Sequential", "any module"])
def test_the_first_product_is_computed_once(wrap, batch, monkeypatch):
    assert products(monkeypatch, wrap(mlp()), torch.randn(R, 16), batch) == [R]


STATE = torch.zeros(R, 16)


@pytest.mark.parametrize(
    "before", [lambda x: x + torch.randn_like(x), lambda x: STATE.add_(1)], ids=["noise", "in place"]
)
def test_an_input_that_changes_has_its_own_products(before):
    net = Wrapped(nn.Sequential(ft.Linear(16, 3, p=1e-9)), before)  # a rate that drops nothing
    assert ft.mc_dropout(net, torch.zeros(R, 16), SAMPLES, batch=1, progress=False).std.min() > 0


def test_the_prefix_of_a_sequential_runs_once_and_hooks_see_their_calls():
    seen = []
    net = nn.Sequential(nn.Sequential(nn.Linear(16, 16), nn.ReLU()), mlp())
    for name, module in (("prefix", net[0][0]), ("first", net[1][0]), ("second", net[1][1])):
        module.register_forward_hook(lambda module, x, y, name=name: seen.append((name, len(y))))
    ft.mc_dropout(net, torch.randn(R, 16), SAMPLES, batch=6, progress=False)
    assert seen == [("prefix", R), *[("first", 6 * R), ("second", 6 * R)] * 2]


def test_memory_does_not_grow_with_the_samples():
    """No layer of a pass has more than ELEMENTS outputs, and none of the outputs is alive after its pass."""
    net, rows, results, alive = mlp(), [], [], []

    def look(module, inputs, y):
        rows.append(len(y))
        alive.append(sum(result() is not None for result in results))
        results.append(weakref.ref(y))

    net[1].register_forward_hook(look)
    ft.mc_dropout(net, torch.randn(2000, 16), 40, progress=False)
    assert rows == [2000 * (monte_carlo.ELEMENTS // (2000 * 32))] * 10
    assert alive == [0] * 10


# Keys and seeds


def test_without_a_seed_it_takes_one_number_of_torchs_generator():
    net, x = mlp(), torch.randn(R, 16)
    torch.manual_seed(5)
    seed = torch.empty((), dtype=torch.int64).random_().item()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    got = ft.mc_dropout(net, x, SAMPLES, progress=False)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(got.mean, ft.mc_dropout(net, x, SAMPLES, seed=seed, progress=False).mean)
    assert not torch.equal(got.mean, ft.mc_dropout(net, x, SAMPLES, progress=False).mean)


def test_layers_without_seeds_do_not_share_a_mask():
    net = nn.Sequential(ft.Dropout(0.5), ft.Dropout(0.5))
    got = ft.mc_dropout(net, torch.ones(1, 4000), 50, progress=False)
    # An output is 4 with probability 1/4, else 0: mean 1, variance 16/4 - 1 = 3. One mask for both would give 4 with
    # probability 1/2: variance 16/2 - 4 = 4.
    # The standard error of the mean of 200 000 squared deviations (fourth central moment 21) is 0.008.
    assert got.std.square().mean().item() == pytest.approx(3, abs=5 * 0.008)
