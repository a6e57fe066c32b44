"""The functions of fusedrop.torch with their gradients, and those of fusedrop for tensors. Cases run once."""

import functools

import torch
from torch.utils.checkpoint import checkpoint

from digests import api
from digests.api import objects, tensors
from digests.api.tensors import bits, gradients, tensor
from digests.case import Case, label
from digests.cases.linear import ACTIVATIONS

OPTIONS = [
    {"p": 0.5, "input_p": 0.2, "activation": "relu"},
    {"p": 0.5, "dropout_first": True, "activation": "gelu"},
    {"input_p": 0.3, "activation": "silu"},
    {"p": 0.4, "residual": True, "activation": "tanh"},
    {"p": 0.4, "bias": False},
    {"p": 0.5, "input_p": 0.3, "granularity": "unit", "activation": "gelu"},
    {"p": 1.0, "activation": "sigmoid"},
    {"p": 0.5, "row0": 9, "col0": 40},
    {"p": 0.5, "repeat": 2, "period": 3},
    {},
]
LEADING = [(7,), (2, 3), (), (0,), (2, 1, 5)]  # dimensions before the last
K, N = 9, 40


def cases():
    """linear and dropout of fusedrop.torch, then the functions of fusedrop with tensors."""
    runs = {}
    for dtype in tensors.TORCH_DTYPES:
        for i, activation in enumerate(ACTIVATIONS):
            options = {"activation": activation, "p": 0.4, "dropout_first": i % 2 == 1}
            runs[f"linear/{dtype}/{label(options)}"] = functools.partial(linear, dtype, (7,), options)
        for granularity, scaling in (("element", "inverted"), ("unit", "classic")):
            key = f"dropout/{dtype}/{granularity},{scaling}"
            runs[key] = functools.partial(dropout, dtype, granularity=granularity, scaling=scaling)
    for options in OPTIONS:
        runs[f"linear/f32/{label(options)},options"] = functools.partial(linear, "f32", (7,), options)
    for lead in LEADING:
        key = f"linear/f64/leading={lead}".replace(" ", "")
        runs[key] = functools.partial(linear, "f64", lead, {**OPTIONS[0], "residual": True})
    for form, function in FORMS.items():
        for activation in ("relu", "gelu"):
            key = f"linear/f64/{activation},{form}"
            runs[key] = functools.partial(in_form, function, activation)
    runs |= {f"tensors/{name}": function for name, function in FOR_TENSORS.items()}
    for key, run in runs.items():
        yield Case(key, lambda run=run: functools.partial(collected, run), every_isa=False)


def collected(run):
    with tensors.alone():
        return {name: bits(value) for name, value in run().items()}


def linear(dtype, lead, options):
    """y and the gradients by all operands, and y without a graph."""
    options = dict(options)
    place = {name: options.pop(name) for name in ("row0", "col0", "repeat", "period") if name in options}
    make = functools.partial(tensor, dtype=dtype)
    x, w = make("torch x", (*lead, K)).requires_grad_(), make("torch w", (N, K)).requires_grad_()
    b = make("torch b", (N,)).requires_grad_() if options.pop("bias", True) else None
    if options.pop("residual", False):
        options["residual"] = make("torch residual", (*lead, N)).requires_grad_()
    call = functools.partial(tensors.call, "torch.linear", rng=api.mask_key(**place))
    y = call(x, w, b, **options)
    results = {"y": y, "gradients": gradients(y, x, w, b, options.get("residual"))}
    results["dw"] = torch.autograd.grad(call(x.detach(), w, None, **options).sum(), w)
    with torch.no_grad():
        results["no_grad"] = call(x, w, b, **options)
    return results


def dropout(dtype, **options):
    """y, its gradient, and the gradient of that."""
    x = tensor("torch x", (3, 5, 70), dtype).requires_grad_()
    y = tensors.call("torch.dropout", x, p=0.4, rng=api.mask_key(), **options)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    return {"y": y, "dx": dx, "second": torch.autograd.grad(dx.sum(), x)}


def in_form(function, activation):
    """A call in one of FORMS; its operands are x, w, b."""
    operands = [tensor(f"torch {name}", shape, "f64") for name, shape in (("x", (4, K)), ("w", (N, K)), ("b", (N,)))]
    options = {"activation": activation, "p": 0.4, "input_p": 0.2, "rng": api.mask_key()}
    return {"results": function(api.bound("torch.linear", **options), *operands)}


def by_checkpoint(call, x, w, b):
    x = x.requires_grad_()
    y = checkpoint(call, x, w, b, use_reentrant=False)
    return [y, *gradients(y, x)]


def by_vmap(call, x, w, b):
    return torch.func.vmap(lambda row: call(row[None], w, b))(x)


def by_func_grad(call, x, w, b):
    return torch.func.grad(lambda *operands: call(*operands).square().sum(), argnums=(0, 1, 2))(x, w, b)


def by_compile(call, x, w, b):
    x, w = x.requires_grad_(), w.requires_grad_()
    y = torch.compile(call, fullgraph=True, backend="aot_eager")(x, w, b)
    return [y, *gradients(y, x, w)]


def by_autocast(call, x, w, b):
    x = x.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = call(x, w.float(), b.float(), **api.translated("torch.linear", {"residual": torch.ones(4, N)}))
    return [y, *gradients(y, x)]


FORMS = {
    "checkpoint": by_checkpoint,
    "vmap": by_vmap,
    "func_grad": by_func_grad,
    "compile": by_compile,
    "autocast": by_autocast,
}


def tensors_linear():
    x, w, b, dy = (tensor(f"t {shape}", shape) for shape in ((7, 9), (40, 9), (40,), (7, 40)))
    y, saved = api.call("linear_forward", x=x, w=w.T.contiguous().T, b=b, p=0.5, rng=api.mask_key(), activation="gelu")
    return {"y": y, "gradients": api.call("linear_backward", dy=dy, saved=saved)}


def tensors_conv2d():
    x, w = tensor("t images", (2, 3, 7, 6)), tensor("t kernel", (4, 3, 3, 2))
    y, saved = api.call("conv2d_forward", x=x, w=w, p=0.5, rng=api.mask_key(), activation="relu")
    return {"y": y, "gradients": api.call("conv2d_backward", dy=y + 1, saved=saved)}


def tensors_lstm():
    shapes = {"x": (2, 3, 4), "w_ih": (20, 4), "w_hh": (20, 5), "b": (20,)}
    arrays = {name: tensor(f"t {name}", shape) for name, shape in shapes.items()}
    y, state, saved = api.call("lstm_forward", **arrays, recurrent_p=0.3, rng=api.mask_key())
    return {"y": [y, *state], "gradients": list(api.call("lstm_backward", dy=y, saved=saved))}


def tensors_others():
    x = tensor("t images", (2, 3, 7, 6))
    pooled = api.call("max_pool2d_forward", x=x, kernel_size=2)[0]
    keep = api.call("mask", shape=(3, 70), p=0.3, rng=api.mask_key(), out=torch.empty(3, 70, dtype=torch.bool))
    dropped, context = api.call("dropout_forward", x=x, p=0.4, rng=api.mask_key())
    dx = api.call("dropout_backward", dropped + 1, context)
    half = api.call("activate", x=tensor("t half", (5, 7), "bf16"), activation="gelu")
    return {"pool": pooled, "keep": keep, "dropout": dropped, "dropout_dx": dx, "activate": half}


def tensors_layer():
    net = tensors.to_torch(api.call("Linear", 9, 40, p=0.4, activation="relu", seed=1, stream=2))
    y = objects.forward(net, tensor("t x", (7, 9)))
    dx = objects.backward(net, torch.ones(7, 40))
    return {"y": y, "dx": dx, "gradients": objects.live_gradients(net)}


FOR_TENSORS = {
    "linear": tensors_linear,
    "conv2d": tensors_conv2d,
    "lstm": tensors_lstm,
    "others": tensors_others,
    "layer": tensors_layer,
}
