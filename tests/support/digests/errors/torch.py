"""Wrong calls of fusedrop.torch: functions, modules, models."""

import functools

import torch
from torch import nn

from digests.api import tensors
from digests.api.tensors import call, tensor
from digests.errors.calls import As, each, spoiled
from digests.errors.functions import RNG, placed

M, K, N = 4, 5, 3


def linear():
    """Arguments that torch.linear accepts."""
    return {"x": tensor("e x", (M, K)), "w": tensor("e w", (N, K)), "b": tensor("e b", (N,)), "p": 0.5, "rng": RNG}


SPARSE, HALF = As("sparse", torch.ones(M, K).to_sparse()), As("f16", torch.ones(M, K).half())
LINEAR = [
    *each("x", [[1.0]], As("scalar", torch.tensor(1.0)), SPARSE, HALF, As("i8", torch.ones(M, K).long())),
    *each("w", 3, As("scalar", torch.tensor(1.0)), As("wide", torch.ones(N, K + 1)), As("row", torch.ones(K))),
    *each("w", As("f64", torch.ones(N, K, dtype=torch.float64))),
    *each("b", 1.0, As("long", torch.ones(N + 1))),
    *each("residual", [1.0], As("row", torch.ones(M)), As("deep", torch.ones(1, M, N))),
    *each("rng", 3, None, placed(row0=2**32 - 2)),
    *each("p", 1.5, "0.5", None, As("tensor", torch.tensor(0.5))),
    *each("input_p", -0.1, True),
    *each("activation", "rely"),
    *each("granularity", "channel"),
    *each("dropout_first", 1),
]
DROPOUT = [
    *each("x", [1.0], SPARSE, HALF),
    *each("p", 1.1, "0.5"),
    *each("rng", None, 3),
    *each("granularity", "channel"),
    *each("scaling", "none"),
]
LAYER = [
    *each("p", 1.5, None),
    *each("input_p", "0.1"),
    *each("activation", "rely"),
    *each("dropout_first", 1),
    *each("granularity", "channel"),
    *each("seed", -1, 1.5),
    *each("stream", 2**32),
]
SAMPLES = [
    *each("model", As("function", torch.relu), As("dry", nn.Linear(K, 2))),
    *each("x", [1.0], As("scalar", torch.zeros(()))),
    *each("samples", 1, 2.5),
    *each("batch", 0),
    *each("progress", 1),
    *each("seed", 2**64),
]


def model():
    first = call("torch.Linear", K, N, p=0.5, seed=1, stream=1)
    return nn.Sequential(first, nn.ReLU(), call("torch.Dropout", 0.2, seed=1, stream=2))


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    yield from spoiled("torch.linear", linear, LINEAR)
    yield from spoiled("torch.dropout", lambda: {"x": tensor("e x", (M, K)), "p": 0.5, "rng": RNG}, DROPOUT)
    yield from spoiled("torch.Linear", lambda: {"in_features": K, "out_features": N}, LAYER)
    yield from spoiled("torch.Dropout", dict, each("p", 1.1, "a") + each("inplace", 1) + each("granularity", "row"))
    samples = functools.partial(dict, model=model(), x=tensor("e x", (M, K)), samples=3, progress=False)
    yield from spoiled("torch.mc_dropout", samples, SAMPLES)
    yield from function_calls().items()
    yield from model_calls().items()


def function_calls():
    """Derivatives that do not exist, and shapes without channels."""

    def second():
        arguments = linear()
        x = arguments["x"].requires_grad_()
        (dx,) = torch.autograd.grad(call("torch.linear", **arguments).square().sum(), x, create_graph=True)
        dx.sum().backward()

    def forward_mode():
        arguments = linear()
        x = arguments.pop("x")
        torch.func.jvp(lambda x: call("torch.linear", x=x, **arguments), (x,), (x,))

    return {
        "torch.linear/second_derivative": second,
        "torch.linear/forward_mode": forward_mode,
        "torch.Dropout1d/x=wrong_rank": lambda: call("torch.Dropout1d")(torch.ones(4)),
        "torch.Dropout2d/x=wrong_rank": lambda: call("torch.Dropout2d")(torch.ones(4, 4)),
        "torch.Dropout/x=list": lambda: call("torch.Dropout")([1.0]),
        "torch.Linear/x=list": lambda: model()([1.0]),
        "torch.Linear/x=wide": lambda: model()(torch.ones(M, K + 1)),
    }


def model_calls():
    """Models that are none, that were not patched, or that do not fit a state."""
    state = call("torch.mask_state", model())
    other, broken = {"9": state["0"]}, dict.fromkeys(state, 3)
    return {
        "torch.patch/model": lambda: call("torch.patch", 3),
        "torch.patch/seed": lambda: call("torch.patch", model(), seed=-1),
        "torch.unpatch/model": lambda: call("torch.unpatch", 3),
        "torch.patch_report/unpatched": lambda: tensors.report(model()),
        "torch.assign_mask_keys/model": lambda: call("torch.assign_mask_keys", 3, 1),
        "torch.assign_mask_keys/seed": lambda: call("torch.assign_mask_keys", model(), -1),
        "torch.assign_mask_keys/step": lambda: call("torch.assign_mask_keys", model(), 1, step=2**32),
        "torch.shard_rows/index": lambda: call("torch.shard_rows", model(), 2, 2),
        "torch.shard_rows/count": lambda: call("torch.shard_rows", model(), 0, "2"),
        "torch.load_mask_state/names": lambda: call("torch.load_mask_state", model(), other),
        "torch.load_mask_state/entries": lambda: call("torch.load_mask_state", model(), broken),
    }
