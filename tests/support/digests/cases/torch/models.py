"""Modules of fusedrop.torch, patched models, training, Monte-Carlo dropout, DTensors. Cases run once."""

import copy
import functools
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from digests.api import tensors
from digests.api.tensors import bits, call, filled, gradients, tensor
from digests.case import Case, label

SEEDED, UNSEEDED = {"seed": 5, "stream": 2}, {}
MODULES = [
    ("Linear", (9, 40), {"activation": "relu", "p": 0.4, "input_p": 0.2}, (7, 9)),
    ("Linear", (9, 40), {"activation": "gelu", "p": 0.4, "dropout_first": True, "bias": False}, (2, 3, 9)),
    ("Linear", (9, 40), {"activation": "silu", "p": 0.5, "granularity": "unit"}, (7, 9)),
    ("Linear", (9, 40), {"activation": "tanh"}, (7, 9)),
    ("Linear", (9, 40), {"p": 0.4, "dtype": torch.float64}, (7, 9)),
    ("Dropout", (0.4,), {}, (3, 5, 70)),
    ("Dropout", (0.4,), {"granularity": "unit"}, (15, 70)),
    ("Dropout", (0.4, True), {}, (15, 70)),
    ("Dropout1d", (0.4,), {}, (6, 40, 5)),
    ("Dropout2d", (0.4,), {}, (3, 40, 5, 4)),
]
ACTIVATIONS = {
    "none": None,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": functools.partial(nn.GELU, "tanh"),
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Shared(nn.Module):
    """Groups that share one activation and one dropout; the first has relu as a function, the second a residual."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(9, 20), nn.Linear(20, 20), nn.Linear(20, 4)
        self.act, self.drop = nn.SiLU(), nn.Dropout(0.3)

    def forward(self, x):
        x = self.drop(F.relu(self.a(x)))
        x = x + self.drop(self.act(self.b(x)))
        return self.c(x)


class Block(nn.Module):
    """Two Linears of one x, residuals, a second call of the first; again: recomputed in the backward pass."""

    def __init__(self, again=False):
        super().__init__()
        self.a = call("torch.Linear", 16, 16, activation="gelu", p=0.4)
        self.b = call("torch.Linear", 16, 16, activation="tanh", p=0.3, dropout_first=True)
        self.again = again

    def forward(self, x):
        return checkpoint(self.run, x, use_reentrant=False) if self.again else self.run(x)

    def run(self, x):
        return self.a(self.b(x, residual=self.a(x)), residual=x)


def sequence(activation, dropout_first=False):
    """Two groups, the second nested, and a Linear outside of any group."""

    def group(k, n):
        middle = [] if activation is None else [activation()]
        drop = nn.Dropout(0.4)
        return [nn.Linear(k, n), *([drop, *middle] if dropout_first else [*middle, drop])]

    return nn.Sequential(*group(9, 40), nn.Sequential(*group(40, 33)), nn.Linear(33, 4))


def mlp(**options):
    first = call("torch.Linear", 16, 32, activation="relu", p=0.2, **options)
    second = call("torch.Linear", 32, 32, activation="gelu", p=0.5, input_p=0.1)
    return nn.Sequential(first, second, call("torch.Dropout", 0.1), call("torch.Linear", 32, 3))


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.3, activation="gelu", batch_first=True)
    layer.self_attn.dropout = 0.0
    return layer


def cases():
    """Modules, models, training, samples, parallel layers."""
    runs = {}
    for seeds in (SEEDED, UNSEEDED):
        for kind, sizes, options, shape in MODULES:
            key = f"module/{kind}{sizes},{label(options | seeds)}".replace(" ", "")
            runs[key] = functools.partial(module, kind, sizes, options | seeds, shape)
    for activation, make in ACTIVATIONS.items():
        for dropout_first in (False, True):
            for seed in (None, 5):
                key = f"patch/sequence,{activation},{label({'dropout_first': dropout_first, 'seed': seed})}"
                runs[key] = functools.partial(patched, functools.partial(sequence, make, dropout_first), (7, 9), seed)
    runs["patch/shared"] = functools.partial(patched, Shared, (7, 9), 5)
    runs["patch/encoder"] = functools.partial(patched, encoder, (3, 5, 16), 5)
    for kind, make in TRAINED.items():
        runs[f"train/{kind}"] = functools.partial(train, make)
    for kind, (make, shape) in SAMPLED.items():
        for batch in (None, 1, 4):
            key = f"samples/{kind},batch={batch}"
            runs[key] = functools.partial(sampled, make, shape, batch)
    runs["parallel"] = parallel
    for key, run in runs.items():
        yield Case(key, lambda run=run: functools.partial(collected, run), every_isa=False)


def collected(run):
    with tensors.alone():
        return {name: bits(value) for name, value in run().items()}


def module(kind, sizes, options, shape):
    """Two training calls and their gradients, a call of a copy, a call in eval mode."""
    layer = filled(call(f"torch.{kind}", *sizes, **options), "module")
    outputs, dtype = [], "f64" if "dtype" in options else "f32"
    for part in ((), (1, 3)):
        if part:
            call("torch.shard_rows", layer, *part)
        x = tensor(f"module {shape}", shape, dtype).requires_grad_()
        y = layer(x.clone())
        outputs += [y, gradients(y, x, *layer.parameters()), tensors.next_key(layer)]
    x = tensor(f"module {shape}", shape, dtype)
    return {"y": outputs, "copy": copy.deepcopy(layer)(x.clone()), "eval": layer.eval()(x)}


def patched(make, shape, seed):
    """A patched model in training and eval mode, and unpatched again."""
    model = filled(make().double(), "patched")
    call("torch.patch", model, seed=seed)
    x = tensor(f"patched {shape}", shape, "f64").requires_grad_()
    y = [model(x), model(x)]
    results = {"y": y, "gradients": gradients(y[1], x, *model.parameters()), "report": tensors.report(model)}
    results["places"] = tensors.next_keys(model)
    results["eval"] = model.eval()(x)
    call("torch.unpatch", model)
    return results | {"unpatched": model(x)}


def train(make):
    """Some steps of an optimizer of PyTorch; after half of them the state of the masks is copied and loaded."""
    model = filled(make(), "trained")
    x, labels = tensor("trained x", (24, 16)), torch.arange(24) % 3
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
    for step in range(6):
        if step == 3:
            call("torch.load_mask_state", model, copy.deepcopy(call("torch.mask_state", model)))
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return {"losses": losses, "values": list(model.parameters()), "places": tensors.next_keys(model)}


def keyed(model):
    return call("torch.assign_mask_keys", model, 2**63 + 11)


def plain():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))


TRAINED = {
    "named": lambda: keyed(mlp()),
    "later": lambda: call("torch.assign_mask_keys", mlp(), 5, step=9),
    "generator": mlp,
    "unit": lambda: keyed(mlp(granularity="unit")),
    "patched": lambda: call("torch.patch", plain(), seed=5),
    "compiled": lambda: torch.compile(keyed(mlp()), backend="aot_eager"),
    "checkpoint": lambda: nn.Sequential(keyed(Block(again=True)), nn.Linear(16, 3)),
}
SAMPLED = {
    "mlp": (mlp, (5, 16)),
    "tokens": (mlp, (5, 4, 16)),
    "dropout_first": (lambda: mlp(dropout_first=True), (5, 16)),
    "unit": (lambda: mlp(granularity="unit"), (5, 16)),
    "block": (Block, (5, 16)),
    "patched": (lambda: call("torch.patch", plain()), (5, 16)),
    "torch": (plain, (5, 16)),
}


def sampled(make, shape, batch):
    """Mean and spread of the outputs over masks."""
    model = filled(make(), "sampled")
    prediction = call("torch.mc_dropout", model, tensor("sampled x", shape), 12, seed=7, batch=batch, progress=False)
    return {"mean": prediction[0], "std": prediction[1], "places": tensors.next_keys(model)}


def parallel():
    """A tensor-parallel pair on a mesh of one process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        pair = nn.Sequential(
            call("torch.Linear", 6, 40, activation="gelu", p=0.3, input_p=0.2),
            call("torch.Linear", 40, 5, activation="tanh", p=0.2),
        )
        model = filled(keyed(pair), "parallel")
        model = parallelize_module(
            model, init_device_mesh("cpu", (1,)), {"0": ColwiseParallel(), "1": RowwiseParallel()}
        )
        x = tensor("parallel x", (4, 6)).requires_grad_()
        y = model(x)
        y.sum().backward()
        return {"y": y, "gradients": [x.grad, *(p.grad.full_tensor() for p in model.parameters())]}
    finally:
        dist.destroy_process_group()
