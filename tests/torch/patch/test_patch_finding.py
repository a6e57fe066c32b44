"""The groups that `patch` finds, the Linears that it leaves alone, and the reasons it gives."""

import copy
import functools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fusedrop.torch as ft  # noqa: E402
from fusedrop.torch.patch.patch import patch, patch_report  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import prune  # noqa: E402


def fused(model):
    return [group.modules for group in patch_report(patch(model)).fused]


def left(model):
    return {entry.module: entry.reason for entry in patch_report(patch(model)).left}


class Net(nn.Module):
    """Two Linears, modules to call between them, and a forward given as a function of (self, x, ...)."""

    def __init__(self, **modules):
        super().__init__()
        self.fc, self.out, self.act, self.drop = nn.Linear(4, 4), nn.Linear(4, 2), nn.GELU(), nn.Dropout(0.5)
        for name, module in modules.items():
            setattr(self, name, module)


def net(forward, **modules):
    """An instance of a new class, so that its forward is a method of its class, as in real models."""
    return type("Model", (Net,), {"forward": forward})(**modules)


ONE = [("fc", "act", "drop")]
FUSED = {
    "chain": (lambda s, x: s.out(s.drop(s.act(s.fc(x)))), ONE),
    "dropout first": (lambda s, x: s.out(s.act(s.drop(s.fc(x)))), [("fc", "drop", "act")]),
    "activation used twice": (lambda s, x: (s.act(s.fc(x)), s.out(x)), [("fc", "act")]),
    "dropout only": (lambda s, x: s.out(F.gelu(s.drop(s.fc(x)))), [("fc", "drop")]),
    "relu function": (lambda s, x: s.out(s.drop(F.relu(s.fc(x)))), [("fc", "drop")]),
    "torch.relu": (lambda s, x: s.out(s.drop(torch.relu(s.fc(x)))), [("fc", "drop")]),
    "Tensor.relu": (lambda s, x: s.out(s.drop(s.fc(x).relu())), [("fc", "drop")]),
    "relu after dropout": (lambda s, x: s.out(s.drop(s.fc(x)).relu()), [("fc", "drop")]),
    "twice alike": (lambda s, x: s.drop(s.act(s.fc(s.drop(s.act(s.fc(x)))))), ONE),
    "all shared": (
        lambda s, x: s.drop(s.act(s.out(s.drop(s.act(s.fc(x)))))),
        [("fc", "act", "drop"), ("out", "act", "drop")],
    ),
    "activation's value used twice": (lambda s, x: (lambda h: s.drop(h) + h)(s.act(s.fc(x))), [("fc", "act")]),
    "in place after what backward does not need": (lambda s, x: s.drop(s.act(s.fc(x))).add_(1), ONE),
    "optional argument": (lambda s, x, m=None: s.drop(s.act(s.fc(x if m is None else x * m))), ONE),
    "only in training": (lambda s, x: s.drop(s.act(s.fc(x))) if s.training else s.out(x), ONE),
}


@pytest.mark.parametrize(("forward", "groups"), FUSED.values(), ids=FUSED)
def test_traced_groups(forward, groups):
    model = net(forward)
    plain, x = copy.deepcopy(model).eval(), torch.randn(3, 4)
    assert fused(model) == groups
    # A hundred times float32's epsilon: for two sums of 4 and an activation of values near 1.
    torch.testing.assert_close(model.eval()(x), plain(x), rtol=2e-5, atol=2e-5)


def if_training(s, x):
    h = s.act(s.fc(x))
    return s.drop(h) if s.training else h


def if_no_mask(s, x, mask=None):
    h = s.fc(x)
    if mask is None:
        h = h.exp()
    return s.drop(s.act(h))


def in_place(s, x):
    h = s.drop(s.act(s.fc(x)))
    h += x
    return h


def by_value(s, x):
    return s.drop(s.act(s.fc(x))) if x.sum() > 0 else x


def call(s, x):
    return s.out(s.drop(s.act(s.fc(x))))


LEFT = {
    "bare": (lambda s, x: s.fc(x), {}, "no activation or dropout follows"),
    "never called": (lambda s, x: s.out(x), {}, "no activation or dropout follows"),
    "functional gelu": (lambda s, x: s.drop(F.gelu(s.fc(x))), {}, "gelu follows as a function"),
    "functional dropout": (lambda s, x: F.dropout(s.fc(x), 0.5, s.training), {}, "dropout follows as a function"),
    "relu alone": (lambda s, x: F.relu(s.fc(x)), {}, "relu follows as a function"),
    "relu in place": (lambda s, x: s.drop(F.relu(s.fc(x), inplace=True)), {}, "relu follows as a function"),
    "relu_": (lambda s, x: s.drop(s.fc(x).relu_()), {}, "relu_ follows as a function"),
    "other activation": (call, {"act": nn.LeakyReLU()}, "LeakyReLU follows, which has no fused form"),
    "other dropout": (lambda s, x: s.drop(s.fc(x)), {"drop": nn.AlphaDropout()}, "AlphaDropout follows, which has"),
    "subclass": (call, {"act": type("MyReLU", (nn.ReLU,), {})()}, "MyReLU follows, which has no fused form"),
    "two uses": (lambda s, x: (lambda h: s.act(h) + h)(s.fc(x)), {}, "its output is used 2 times"),
    "calls differ": (lambda s, x: s.act(s.fc(s.drop(s.act(s.fc(x))))), {}, "its calls differ in what follows"),
    "one bare call": (lambda s, x: s.fc(s.drop(s.act(s.fc(x)))), {}, "no activation or dropout follows"),
    "shared activation": (lambda s, x: s.act(s.drop(s.act(s.fc(x)))), {}, "its GELU is also called outside of a fused"),
    "shared dropout": (
        lambda s, x: s.drop(s.act(s.fc(s.drop(x)))),
        {},
        "its Dropout is also called outside of a fused",
    ),
    "in place": (in_place, {"act": nn.Tanh()}, "its output, which backward needs, is changed in place by iadd"),
    "in-place module": (
        lambda s, x: s.out(s.drop(s.act(s.fc(x)))),
        {"act": nn.Tanh(), "out": nn.ReLU(inplace=True)},
        "its output, which backward needs, is changed in place by ReLU",
    ),
    "in-place method": (
        lambda s, x: s.act(s.fc(x)).mul_(2),
        {"act": nn.Sigmoid()},
        "its output, which backward needs, is changed in place by mul_",
    ),
    "training": (if_training, {}, "its calls differ in what follows"),
    "no mask": (if_no_mask, {}, "no activation or dropout follows"),
    "untraceable": (by_value, {}, "torch.fx can't trace Model: symbolically traced variables cannot be used"),
}


@pytest.mark.parametrize(("forward", "modules", "reason"), LEFT.values(), ids=LEFT)
def test_left_alone_by_what_is_called(forward, modules, reason):
    model = net(forward, **modules)
    assert not fused(model)
    assert left(model)["fc"].startswith(reason)
    assert "\n" not in left(model)["fc"]


def change(function):
    """A Sequential with one group, after `function` has changed it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5))
    function(model)
    return model


def replace_forward(model, i):
    model[i].forward = functools.partial(type(model[i]).forward, model[i])


def nothing(*_):
    pass


REFUSED = {
    "hook on Linear": (lambda m: m[0].register_forward_hook(nothing), "its Linear has hooks"),
    "hook on activation": (lambda m: m[1].register_forward_hook(nothing), "its ReLU has hooks"),
    "pre-hook on activation": (lambda m: m[1].register_forward_pre_hook(nothing), "its ReLU has hooks"),
    "pre-hook on dropout": (lambda m: m[2].register_forward_pre_hook(nothing), "its Dropout has hooks"),
    "backward hook": (lambda m: m[0].register_full_backward_hook(nothing), "its Linear has hooks"),
    "forward replaced": (lambda m: replace_forward(m, 1), "forward of its ReLU has been replaced"),
    "Linear's forward replaced": (lambda m: replace_forward(m, 0), "forward of its Linear has been replaced"),
    "weight_norm": (lambda m: nn.utils.parametrizations.weight_norm(m[0]), "it is parametrized"),
    "pruned": (lambda m: prune.random_unstructured(m[0], "weight", 0.5), "its weight or bias is computed"),
    "spectral_norm": (lambda m: nn.utils.spectral_norm(m[0]), "its weight or bias is computed"),
    "subclass": (
        lambda m: m.__setitem__(0, type("LoRALinear", (nn.Linear,), {"__module__": "peft"})(4, 4)),
        "only torch.nn.Linear itself is fused, not peft.LoRALinear",
    ),
    "lazy": (lambda m: m.__setitem__(0, nn.LazyLinear(4)), "its size is not known yet"),
    "quantized": (
        lambda m: m.__setitem__(0, torch.ao.nn.quantized.Linear(4, 4)),
        "only torch.nn.Linear itself is fused, not torch.ao.nn.quantized",
    ),
    "float16": (lambda m: m.half(), "no kernels for float16 on cpu"),
    "other device": (lambda m: m.to("meta"), "no kernels for float32 on meta"),
    "attribute": (lambda m: setattr(m[0], "mask_key", 1), "it has an attribute of its own named mask_key"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED)
def test_left_alone_by_what_it_is(function, reason):
    model = change(function)
    before = [type(m) for m in model.modules()]
    assert not fused(model)
    assert left(model)["0"].startswith(reason)
    assert [type(m) for m in model.modules()] == before


def test_a_group_left_alone_excludes_groups_that_share_its_modules():
    drop, act = nn.Dropout(), nn.Tanh()
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), drop)
    model.extend([nn.Linear(4, 4), act, drop])
    model.extend([nn.Linear(4, 4), act, nn.Dropout()])
    model.extend([nn.Linear(4, 4), nn.Tanh()])
    model[1].register_forward_hook(nothing)
    assert fused(model) == [("9", "10")]
    assert left(model) == {
        "0": "its ReLU has hooks, which would see fused values",
        "3": "its Dropout is also called outside of a fused group",
        "6": "its Tanh is also called outside of a fused group",
    }


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_linear_is_fused_once_it_has_its_size():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    model(torch.ones(2, 3))
    assert fused(model) == [("0", "1")]


def test_nested_sequentials_are_one_chain_unless_a_hook_is_between():
    def make():
        return nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Dropout(), nn.Linear(4, 4)))

    assert fused(make()) == [("0.0", "0.1", "1.0")]
    for hook in (lambda m: m[0].register_forward_hook(nothing), lambda m: m[1].register_forward_pre_hook(nothing)):
        model = make()
        hook(model)
        assert fused(model) == [("0.0", "0.1")]


def test_a_traced_forward_decides_how_a_sequential_is_called():
    """Called as a whole, with a dropout after it; called in part; not called in forward at all."""

    def part():
        return nn.Sequential(nn.Linear(4, 4), nn.GELU())

    assert fused(net(lambda s, x: s.drop(s.part(x)), part=part())) == [("part.0", "part.1", "drop")]
    assert fused(net(lambda s, x: s.part[1](s.part[0](x)), part=part())) == [("part.0", "part.1")]
    assert left(net(lambda s, x: s.drop(s.part[0](x)), part=part()))["part.0"] == "its calls differ in what follows"
    assert fused(net(lambda s, x: x, part=part())) == [("part.0", "part.1")]


def test_sequentials_inside_what_cannot_be_traced():
    """Modules that only the untraceable forward calls are left alone, a shared dropout too; Sequentials are found."""
    drop = nn.Dropout()
    model = net(
        by_value,
        drop=drop,
        layers=nn.ModuleList([nn.Linear(4, 4)]),
        own=nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout()),
        sharing=nn.Sequential(nn.Linear(4, 4), drop),
    )
    assert fused(model) == [("own.0", "own.1", "own.2")]
    assert left(model).keys() == {"fc", "out", "layers.0", "sharing.0"}
    assert all(reason.startswith("torch.fx can't trace Model: ") for reason in left(model).values())


def test_modules_inside_modules_are_traced_by_their_own_forward():
    inner = net(call)
    model = net(lambda s, x: s.drop(s.inner(x)), inner=inner, act=inner.act)
    assert fused(model) == [("inner.fc", "act", "inner.drop")]
    assert left(model).keys() == {"fc", "out", "inner.out"}


def test_tracing_leaves_nothing_behind():
    """No attribute set in forward, no update of a buffer, no change of a mode, no random number used."""

    def forward(s, x):
        s.seen = s.fc(x)
        s.count.add_(1)
        return s.drop(s.act(s.seen)) + torch.rand(4)

    model = net(forward)
    model.register_buffer("count", torch.zeros(()))
    model.act.eval()
    state = torch.get_rng_state()
    patch(model)
    assert not hasattr(model, "seen")
    assert model.count == 0
    assert [model.training, model.act.training] == [True, False]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_change_in_place_that_is_not_traced_raises():
    """In another module the tracer cannot see the same change. Then backward raises: the gradient is never wrong."""
    inner = net(lambda s, x: s.drop(s.act(s.fc(x))), act=nn.Tanh())
    model = net(lambda s, x: s.inner(x).add_(1), inner=inner)
    patch(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(torch.randn(3, 4)).sum().backward()


def test_transformer_layers_with_code_of_their_own():
    class OtherBlock(nn.TransformerEncoderLayer):
        def _ff_block(self, x):
            return self.linear2(self.activation(self.linear1(x)))

    class OtherForward(nn.TransformerDecoderLayer):
        def forward(self, x):
            return self.linear2(self.linear1(x))

    for kind in (OtherBlock, OtherForward):
        model = kind(8, 2, 16)
        assert not fused(model)
        reasons = left(model)
        assert reasons["linear1"] == reasons["linear2"] == f"{kind.__name__} has a forward or _ff_block of its own"

    class OnlyRenamed(nn.TransformerEncoderLayer):
        pass

    assert fused(OnlyRenamed(8, 2, 16)) == [("linear1", "activation", "dropout"), ("linear2", "dropout2")]


def test_transformer_layers_with_other_members():
    model = nn.TransformerEncoderLayer(8, 2, 16, activation=F.elu)
    assert fused(model) == [("linear2", "dropout2")]
    assert left(model)["linear1"] == "the layer's activation elu has no fused form"
    model = nn.TransformerEncoderLayer(8, 2, 16)
    model.dropout, model.dropout2 = nn.Identity(), nn.Identity()
    assert fused(model) == [("linear1", "activation")]
    model = nn.TransformerDecoderLayer(8, 2, 16)
    model.dropout = model.dropout2
    assert fused(model) == [("linear2", "dropout3")]
    assert left(model)["linear1"] == "its Dropout is also called outside of a fused group"
    model = nn.TransformerEncoderLayer(8, 2, 16)
    model.dropout = nn.Identity()
    model.linear1.register_forward_hook(nothing)
    assert left(model)["linear1"] == "its Linear has hooks, which would see fused values"


def test_groups_inside_a_compiled_or_wrapped_model_are_found():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert fused(torch.compile(model, backend="eager")) == [("_orig_mod.0", "_orig_mod.1")]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript_is_skipped():
    script = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    assert fused(nn.Sequential(script, nn.Linear(4, 4), nn.ReLU())) == [("1", "2")]
    assert not fused(net(by_value, script=script))


def test_fusedrops_own_layers_are_not_reported():
    model = nn.Sequential(ft.Linear(4, 4, activation="relu"), nn.Dropout(), nn.Linear(4, 4), nn.ReLU())
    assert fused(model) == [("2", "3")]
    assert not left(model)


def test_the_text_of_the_report():
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2))
    model.extend([nn.Linear(256, 64), nn.Dropout(0.1), nn.GELU(), nn.Linear(64, 10)])
    assert str(patch_report(patch(model))).splitlines() == [
        "0, 1, 2: Linear(784, 256) + ReLU + Dropout(0.2)",
        "3, 4, 5: Linear(256, 64) + Dropout(0.1) + GELU",
        "6: Linear(64, 10): left alone, no activation or dropout follows",
    ]
    layer = patch(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu")))
    assert str(patch_report(layer)).startswith(
        "0.linear1, 0.activation, 0.dropout: Linear(8, 16) + gelu + Dropout(0.1)\n"
    )
    functional = patch(net(lambda s, x: s.drop(F.relu(s.fc(x)))))
    assert str(patch_report(functional)).startswith("fc, drop: Linear(4, 4) + relu + Dropout(0.5)\n")
    alone = patch(nn.Linear(3, 2))
    assert str(patch_report(alone)) == "the model: Linear(3, 2): left alone, no activation or dropout follows"
