"""For the tests of `patch`: an unpatched model that applies the masks which the patched model drew."""

import copy
import functools

import fusedrop as fd
import numpy as np
import torch
from fusedrop import reference
from fusedrop.torch.patch.fused_modules import FusedLinear
from torch import nn

# Sums of at most 64 products of order 1, in a few layers of float64, differ by some hundred times its epsilon of 2e-16.
close = functools.partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


class GivenMasks(nn.Module):
    """Dropout with given masks, one for each call."""

    def __init__(self, p):
        super().__init__()
        self.p, self.masks = p, []

    def forward(self, x):
        if not self.training:
            return x
        keep = torch.from_numpy(np.ascontiguousarray(self.masks.pop(0))).reshape(x.shape)
        return torch.where(keep, x * reference.scale(self.p), torch.zeros((), dtype=x.dtype))


def with_masks_of(patched, plain, rows):
    """A copy of the unpatched model whose Dropouts in fused groups apply the last masks that `patched` drew."""
    expected, names = copy.deepcopy(plain), {m: name for name, m in patched.named_modules()}
    given = {}
    for linear in patched.modules():
        if isinstance(linear, FusedLinear) and linear.fused_group.dropout is not None:
            dropout = linear.fused_group.dropout
            if dropout not in given:
                given[dropout] = GivenMasks(dropout.p).train(dropout.training)
                expected.set_submodule(names[dropout], given[dropout])
            mask = fd.dropout_mask((rows, linear.out_features), p=dropout.p, rng=linear.mask_key.rng)
            given[dropout].masks.append(mask)
    return expected


def results(model, x, *rest):
    """y, dx and the gradient of every parameter, for one dy."""
    x = x.clone().requires_grad_()
    y = model(x, *rest)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, *torch.autograd.grad(y, (x, *model.parameters()), dy)


def same_values(got, want, check=close):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        check(a, b)


equal = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
