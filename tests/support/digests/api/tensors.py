"""Calls of fusedrop.torch, and tensors as inputs and results; see `digests.api`. This module needs PyTorch."""

import contextlib

import torch

from digests import api, inputs

TORCH_DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}
call = api.call  # with "torch.linear", "torch.Linear", "torch.patch" ...


def tensor(text, shape, dtype="f32", kind="normal"):
    """The tensor of inputs.normal."""
    array = inputs.normal(text, shape, dtype, kind)
    if dtype == "bf16":
        return torch.from_numpy(array.view("i2").copy()).view(torch.bfloat16)
    return torch.from_numpy(array)


def bits(value):
    """The value with arrays in place of tensors, inside lists and dictionaries too."""
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous()
        return (value.view(torch.int16) if value.dtype is torch.bfloat16 else value).numpy().copy()
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    return value


@contextlib.contextmanager
def alone():
    """One thread of PyTorch, for its own sums may depend on the number, and a fixed seed; both are restored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            yield
    finally:
        torch.set_num_threads(threads)


def gradients(y, *operands):
    """[gradient by each operand], for a fixed dy."""
    operands = [t for t in operands if t is not None and t.requires_grad]
    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    return list(torch.autograd.grad(y, operands, dy))


def filled(model, text):
    """The model with new parameters: vectors near 0, matrices of variance 1 / fan-in."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            values = tensor(f"{text} {i}", tuple(parameter.shape), "f64")
            scale = 0.1 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(values * scale)
    return model


def next_key(module):
    """A module's seed, stream and step, and the key of its last mask."""
    key = module.mask_key
    return [key.seed, key.stream, key.step, None if key.rng is None else api.key_fields(key.rng)]


def next_keys(model):
    """Seed, stream and step of all modules that draw masks."""
    return [list(entry.values()) for entry in call("torch.mask_state", model).values()]


def report(model):
    """The number of fused groups, and of Linears left alone."""
    told = call("torch.patch_report", model)
    return [len(told.fused), len(told.left)]


def to_torch(layer):
    """A layer of fusedrop itself, with tensors as parameters."""
    return layer.to(torch.from_numpy)
