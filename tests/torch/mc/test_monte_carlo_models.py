"""mc_dropout on many kinds of models, which it leaves unchanged."""

import contextlib
import math
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fusedrop.torch as ft  # noqa: E402
from torch import nn  # noqa: E402

SEED, SAMPLES, R = 7, 12, 5


def mlp(**options):
    first = ft.Linear(16, 32, activation="relu", p=0.2, **options)
    return nn.Sequential(first, ft.Linear(32, 32, activation="gelu", p=0.5), ft.Linear(32, 3))


class Wrapped(nn.Module):
    """Hides a model's structure, so that it is no Sequential."""

    def __init__(self, model, before=torch.clone):
        super().__init__()
        self.model, self.before = model, before

    def forward(self, x):
        return self.model(self.before(x))


# torch's own modules


@pytest.mark.parametrize("dropout", [nn.Dropout, nn.AlphaDropout, ft.Dropout])
def test_torchs_dropouts_drop_and_batch_norm_stays_as_it_is(dropout):
    net = nn.Sequential(nn.BatchNorm1d(16), dropout(0.25), nn.BatchNorm1d(16)).train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(64, 16) + 3
    got, again = (ft.mc_dropout(net, x, 400, seed=SEED, progress=False) for _ in range(2))
    assert torch.equal(got.mean, again.mean)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.training
    mean = net.eval()(x)  # the mean of each element; AlphaDropout preserves only the mean over x
    if dropout is not nn.AlphaDropout:
        spread = mean.abs() * math.sqrt(0.25 / 0.75)
        assert ((got.mean - mean).abs() <= 5 * spread / math.sqrt(400)).all()
        assert (got.std / spread).mean().item() == pytest.approx(1, abs=0.02)  # 1024 stds, each +- 0.03
    else:
        assert got.std.min() > 0


def encoder():
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.5, batch_first=True), torch.randn(3, 4, 16)


def attention_alone():
    class Attention(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)[0]

    return Attention(16, 2, dropout=0.5, batch_first=True), torch.randn(3, 4, 16)


def recurrent():
    class Last(nn.GRU):
        def forward(self, x):
            return super().forward(x)[0]

    return Last(16, 8, num_layers=2, dropout=0.5, batch_first=True), torch.randn(3, 4, 16)


@pytest.mark.parametrize("build", [encoder, attention_alone, recurrent])
def test_dropouts_inside_torchs_larger_modules(build):
    model, x = build()
    fast = torch.backends.mha.get_fastpath_enabled()
    got = ft.mc_dropout(model, x, 20, seed=1, progress=False)
    assert got.std.min() > 0
    torch.rand(1)  # the seed decides, not the state of the generator
    assert torch.equal(got.mean, ft.mc_dropout(model, x, 20, seed=1, progress=False).mean)
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("whole", [True, False], ids=["model", "its layers"])
def test_a_compiled_model_is_sampled_without_compiling_it(whole):
    net, x, graphs = mlp(), torch.randn(R, 16), []

    def compiled(module):
        return torch.compile(module, backend=lambda graph, inputs: graphs.append(graph) or graph)

    want = ft.mc_dropout(net, x, SAMPLES, seed=SEED, progress=False)
    net = compiled(net) if whole else nn.Sequential(*map(compiled, net))
    assert torch.equal(ft.mc_dropout(net, x, SAMPLES, seed=SEED, progress=False).mean, want.mean)
    assert not graphs


def test_a_compiled_layer_has_one_key():
    compiled = nn.Sequential(*(torch.compile(ft.Dropout(), backend="eager") for _ in range(2)))
    ft.assign_mask_keys(compiled, SEED)
    assert [layer._orig_mod.mask_key.stream for layer in compiled] == [0, 1]
    assert list(ft.mask_state(compiled)) == ["0._orig_mod", "1._orig_mod"]


# Afterwards everything is as before


def everything(model):
    """All state of the model and of torch that sampling changes."""
    modules = [{name: v for name, v in vars(m).items() if not isinstance(v, dict)} for m in model.modules()]
    keys = [m.mask_key for m in ft.models.masked_modules(model).values()]
    keys = [(key.step, key.seed, key.rng, key.shard) for key in keys]
    parameters = [(p.requires_grad, p.grad, p.data_ptr(), p._version) for p in model.parameters()]
    buffers = [(b.data_ptr(), b._version) for b in model.buffers()]
    return modules, keys, parameters, buffers, torch.get_rng_state().tolist(), torch.is_grad_enabled()


class Raising(nn.Module):
    """Returns x. Raises the given errors, one for each pass."""

    def __init__(self):
        super().__init__()
        self.errors = iter(())

    def forward(self, x):
        error = next(self.errors, None)
        if error is not None:
            raise error
        return x


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("wrap", [nn.Sequential, Wrapped], ids=["Sequential", "any module"])
def test_everything_is_as_before(wrap, error):
    raising = Raising()
    inner = nn.Sequential(mlp(seed=3), raising, nn.Dropout(0.5), nn.BatchNorm1d(3))
    model, x = wrap(inner), torch.randn(R, 16, requires_grad=True)
    model.train()
    model(x)
    inner[0].eval()
    inner[0][2].train()
    inner[0][1].weight.requires_grad = False
    raising.errors = iter([None, None, error])
    before = everything(model)
    with contextlib.ExitStack() as expected:
        if error:
            expected.enter_context(pytest.raises(error))
        ft.mc_dropout(model, x, SAMPLES, seed=SEED, batch=2, progress=False)
    assert everything(model) == before
    assert x.grad is None


def test_the_results_can_be_used_where_gradients_are():
    mean, std = ft.mc_dropout(mlp(), torch.randn(R, 16), 3, progress=False)
    scale = torch.ones((), requires_grad=True)
    (mean * std * scale).sum().backward()
    assert scale.grad == (mean * std).sum()


# The progress bar


def test_the_bar_counts_samples(capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    ft.mc_dropout(mlp(), torch.randn(R, 16), 10)
    assert "mc_dropout" in capsys.readouterr().err
    ft.mc_dropout(mlp(), torch.randn(R, 16), 10, progress=False)
    assert capsys.readouterr().err == ""


def test_without_tqdm_there_is_no_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ft.mc_dropout(mlp(), torch.randn(R, 16), 10)
    assert capsys.readouterr().err == ""


# What is refused

X = torch.zeros(4, 16)


class TwoResults(nn.Dropout):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "model must be a torch.nn.Module; got function", {"model": lambda x: x}),
        (TypeError, "x must be a torch.Tensor; got list", {"x": [1.0]}),
        (ValueError, r"x must be \[R, ...\].*; got a scalar", {"x": torch.zeros(())}),
        (ValueError, "samples must be at least 2; got 1", {"samples": 1}),
        (TypeError, "samples must be an integer.*; got 2.5", {"samples": 2.5}),
        (ValueError, "batch must be at least 1; got 0", {"batch": 0}),
        (TypeError, "progress must be True or False; got 1", {"progress": 1}),
        ((ValueError, OverflowError), "seed", {"seed": 1 << 64}),
        (ValueError, "model must contain a dropout.*got Linear", {"model": nn.Linear(16, 2)}),
        (
            ValueError,
            "model must contain a dropout.*got Sequential",
            {"model": nn.Sequential(ft.Linear(16, 2), nn.Dropout(0))},
        ),
        (
            TypeError,
            "model must return a floating-point tensor; got tuple",
            {"model": TwoResults()},
        ),
    ],
)
def test_bad_input(error, message, arguments):
    arguments = {"model": mlp(), "x": X, "samples": 4, "seed": 1, "progress": False} | arguments
    with pytest.raises(error, match=message):
        ft.mc_dropout(arguments.pop("model"), arguments.pop("x"), **arguments)


def test_a_model_that_moves_the_examples_must_take_one_sample_per_pass():
    mixing = Wrapped(nn.Sequential(ft.Dropout(0.5)), before=lambda x: x.mean(0, keepdim=True))
    with pytest.raises(
        ValueError, match=r"x must have its examples along dimension 0.*batch must be 1; got .* 1 rows for 3"
    ):
        ft.mc_dropout(mixing, X, 4, batch=3, progress=False)
    pooled = nn.Sequential(ft.Dropout(0.5), Wrapped(nn.Identity(), before=lambda x: x.mean(0, keepdim=True)))
    with pytest.raises(ValueError, match=r"model must return examples along dimension 0.*got \[1, 16\] for 4 samples"):
        ft.mc_dropout(pooled, X, 4, progress=False)
    assert ft.mc_dropout(pooled, X, 4, batch=1, progress=False).mean.shape == (1, 16)


def test_a_patched_model_also_shares_its_first_product():
    """The prediction is that of the same layers as fusedrop.torch.Linear, bit for bit. The matmul runs once."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        *(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5)),
        *(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3), torch.nn.Tanh()),
        torch.nn.Linear(8, 3),
    )
    layers = torch.nn.Sequential(
        ft.Linear(6, 8, activation="relu", p=0.5),
        ft.Linear(8, 8, activation="tanh", p=0.3, dropout_first=True),
        torch.nn.Linear(8, 3),
    )
    for index, source in enumerate((0, 3, 6)):
        layers[index].load_state_dict(plain[source].state_dict())
    x = torch.randn(5, 6)
    want = ft.mc_dropout(layers, x, samples=7, seed=3, progress=False)
    got = ft.mc_dropout(ft.patch(plain), x, samples=7, seed=3, progress=False)
    assert torch.equal(got.mean, want.mean)
    assert torch.equal(got.std, want.std)
    assert plain[0].mask_key.step == 0
    assert "forward" not in vars(plain[0])
