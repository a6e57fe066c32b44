"""Monte-Carlo dropout: the uncertainty of a model, as the spread of its predictions over many masks."""

from contextlib import contextmanager
from typing import NamedTuple

import torch

import fusedrop
from fusedrop import checks
from fusedrop.torch.mc.sampling import drops, sampling

# Elements in a layer's output in one pass, about, unless `batch` is given: a megabyte of float32 stays in the cache.
ELEMENTS = 1 << 18


class Prediction(NamedTuple):
    """What `mc_dropout` returns: two tensors with shape and dtype of model(x)."""

    mean: torch.Tensor
    std: torch.Tensor


def mc_dropout(model, x, samples=100, *, seed=None, batch=None, progress=True):
    """Mean and standard deviation of model(x) over `samples` dropout masks, all else as in eval mode.

    What comes before the first mask is computed once for all samples. In a torch.nn.Sequential (or nested ones) that is
    every module before the mask, and the matmul of a `Linear` that drops its output. In any other model it is the
    matmul of each such `Linear` whose input is the same for all samples; this is checked.

    Args:
        model: a torch.nn.Module with fusedrop's dropouts, with torch's (torch.nn.Dropout and the like, RNNs,
            MultiheadAttention), or with both. A functional dropout in a module's own forward stays off.
        x: [R, ...], examples along dimension 0; [K] is one example.
        samples: number of masks, at least 2.
        seed: an integer in [0, 2^64), or None to take one number from torch's generator. For row i of its R rows,
            sample s of a fusedrop module draws row s R + i of the mask (seed, stream, 0). stream is the module's
            position, as in `assign_mask_keys`. A module's second call in one pass draws at step 1. Unit dropout draws
            at step s.
        batch: samples in one pass of the model, repeated along dimension 0; None chooses a number. It changes no mask
            but torch's own. Pass 1 for a model that mixes examples (by attention along dimension 0, for example). It is
            always 1 under unit dropout and for x [K].
        progress: show a bar if tqdm is installed.

    Returns:
        Prediction(mean, std), shaped like model(x); std is the unbiased one. Both are accumulated in float64, sample
        after sample. Where fusedrop computes all layers, they are the same bits for any `batch`. Otherwise they are the
        same within rounding, except for torch's own masks.

    Afterwards the model is as before (training flags, steps, all else), also after an error.

    Raises:
        TypeError, ValueError: naming the argument and both sides; also if no module of the model drops anything.

    Gal and Ghahramani, "Dropout as a Bayesian approximation", 1506.02142.
    """
    check(model, x)
    samples, batch = at_least(2, samples, "samples"), None if batch is None else at_least(1, batch, "batch")
    progress = checks.flag(progress, "progress")
    if seed is None:
        seed = torch.empty((), dtype=torch.int64).random_().item()
    seed = fusedrop.Philox(seed).seed  # checks the range
    shared, stage, rest = split(model)
    moments = Moments()
    with sampling(model, stage, seed, samples) as run, progress_bar(samples, progress) as update:
        x = through(shared, x)
        batch = 1 if run.one_by_one or x.dim() < 2 else batch or good_batch(model, x)
        for y in passes(drawing(stage, x, run), rest, batch, run):
            for one in of_each_sample(y, run.count):
                moments.add(one)
            update(run.count)
    return moments.prediction()


def check(model, x):
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor; got {type(x).__name__}")
    if x.dim() == 0:
        raise ValueError("x must be [R, ...], examples along dimension 0; got a scalar")
    if not any(map(drops, model.modules())):
        raise ValueError(
            "model must contain a dropout module with a rate above 0, fusedrop's or torch's; "
            f"got {type(model).__name__} without one, whose predictions would all be the same"
        )


def at_least(least, value, name):
    value = checks.size(value, name)
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    return value


def split(model):
    """(modules that all samples share, the module with the first mask, the modules after it), in the order of calls."""
    chain = links(model)
    first = next(i for i, module in enumerate(chain) if any(map(drops, module.modules())))
    return chain[:first], chain[first], chain[first + 1 :]


def links(module):
    """The modules of a Sequential, and of Sequentials inside it. Any other module is one link."""
    own = type(module).forward is torch.nn.Sequential.forward and "forward" not in vars(module)
    if not own or has_hooks(module):
        return [module]
    return [link for child in module for link in links(child)]


def has_hooks(module):
    """Whether the module has hooks, which see its own call: then that call must be made."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def through(chain, x):
    for module in chain:
        x = module(x)
    return x


def drawing(stage, x, run):
    """The function that returns `stage`'s output for all samples of a pass."""
    split_linear = run.split_linears.get(stage)
    if split_linear is None or has_hooks(stage):
        return lambda: stage(x.repeat(run.count, *(1,) * (x.dim() - 1)))  # a copy: modules may work in place
    product = split_linear.product(x)
    return lambda: split_linear.drop(product)


def passes(draw, rest, batch, run):
    """y [count R, ...] of one pass after the other."""
    for first in range(0, run.samples, batch):
        run.begin(first, min(batch, run.samples - first))
        yield through(rest, draw())


def good_batch(model, x):
    """Number of samples for which the output of the widest layer has about ELEMENTS elements."""
    rows = x.numel() // max(1, x.shape[-1]) if x.is_floating_point() else x.numel()
    widest = max((p.shape[0] for p in model.parameters() if p.dim()), default=x.shape[-1])
    return max(1, ELEMENTS // max(1, rows * widest))


def of_each_sample(y, count):
    """y [count R, ...] as `count` tensors [R, ...]."""
    if not isinstance(y, torch.Tensor) or not y.is_floating_point():
        got = y.dtype if isinstance(y, torch.Tensor) else type(y).__name__
        raise TypeError(f"model must return a floating-point tensor; got {got}")
    if count == 1:
        return (y,)
    if y.dim() == 0 or y.shape[0] % count:
        raise ValueError(
            "model must return examples along dimension 0, as x has them, or batch must be 1; "
            f"got {list(y.shape)} for {count} samples"
        )
    return y.reshape(count, y.shape[0] // count, *y.shape[1:]).unbind()


class Moments:
    """Running mean and sum of squared deviations, in float64: Welford, Technometrics 4 (1962).

    One sample at a time, so that the order of the additions, and with it every bit, does not depend on the passes.
    """

    def __init__(self):
        self.n = 0

    def add(self, y):
        self.dtype, y = y.dtype, y.double()
        self.n += 1
        if self.n == 1:
            self.mean, self.squares = y.clone(), torch.zeros_like(y)
            return
        deviation = y - self.mean
        self.mean += deviation / self.n
        self.squares += deviation * (y - self.mean)

    def prediction(self):
        std = (self.squares / (self.n - 1)).sqrt()
        return Prediction(self.mean.to(self.dtype), std.to(self.dtype))


@contextmanager
def progress_bar(samples, wanted):
    """A function that takes the number of finished samples. It shows a bar if wanted and if tqdm is installed."""
    tqdm = import_tqdm() if wanted else None
    if tqdm is None:
        yield lambda count: None
        return
    with tqdm(total=samples, desc="mc_dropout", unit="sample", leave=False) as bar:
        yield bar.update


def import_tqdm():
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
