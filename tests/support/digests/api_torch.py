"""All calls of fusedrop.torch, and tensors as results; see `api.py`. Importing this needs PyTorch."""

import contextlib

import torch

from digests import api, inputs

TORCH_DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}
call = api.call  # of "torch.linear", "torch.Linear", "torch.patch" ...


def tensor(text, shape, dtype="f32", kind="normal"):
    """As inputs.normal."""
    array = inputs.normal(text, shape, dtype, kind)
    if dtype == "bf16":
        return torch.from_numpy(array.view("i2").copy()).view(torch.bfloat16)
    return torch.from_numpy(array)


def bits(value):
    """Tensors among lists and dictionaries as arrays."""
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
    """One thread of PyTorch's, whose own sums may depend on that, and its generator put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            yield
    finally:
        torch.set_num_threads(threads)


def gradients(y, *operands):
    """[dy by each operand], for one dy."""
    wanted = [t for t in operands if t is not None and t.requires_grad]
    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    return list(torch.autograd.grad(y, wanted, dy))


def filled(model, text):
    """The model with parameters of ours: those of vectors near 0, of matrices with variance 1 / fan-in."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            values = tensor(f"{text} {i}", tuple(parameter.shape), "f64")
            scale = 0.1 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(values * scale)
    return model


def place(module):
    """A module's place in the mask: seed, stream, step, and the name of its last mask."""
    name = module.masks
    return [name.seed, name.stream, name.step, None if name.rng is None else api.name_fields(name.rng)]


def places(model):
    """Of all its modules that draw masks."""
    return [list(entry.values()) for entry in call("torch.mask_state", model).values()]


def report(model):
    """How many groups were fused, how many Linears left alone."""
    told = call("torch.patch_report", model)
    return [len(told.fused), len(told.left)]


def to_torch(layer):
    """A layer of fusedrop itself that holds tensors."""
    return layer.to(torch.from_numpy)
