"""Prepares a model for sampling: assigns a mask to each sample, and computes once what all samples share.

Several samples share a pass of the model: x [R, ...] is repeated along dimension 0, sample after sample. Sample s of a
layer with R rows has the rows from s R on of one mask, whose key is (seed, position in the model, 0). So the number of
samples in a pass changes no mask. A layer that is called again in the same pass takes the next step.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NamedTuple

import torch

import fusedrop
from fusedrop.torch import functional, operators
from fusedrop.torch.autograd import apply_dropout
from fusedrop.torch.mask_key import MaskKey
from fusedrop.torch.models import draws_masks, masked_modules
from fusedrop.torch.modules import Linear
from fusedrop.torch.patch.fused_modules import FusedLinear

TORCH_DROPOUTS = (  # modules for which dropping is the only effect of training mode
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
    torch.nn.MultiheadAttention,
    torch.nn.RNNBase,
)


def drops(module):
    """Whether this module itself, not a module inside it, drops anything in training mode."""
    if not isinstance(module, TORCH_DROPOUTS) and not draws_masks(module):
        return False
    rates = [getattr(module, name) for name in ("p", "dropout", "input_p") if hasattr(module, name)]
    return any(rates) or not rates


class Run:
    """The samples of one call. The current pass of the model draws `count` of them, from number `first` on."""

    def __init__(self, samples):
        self.samples, self.first, self.count = samples, 0, 1
        self.keys: list[SampleKey] = []
        self.split_linears: dict[torch.nn.Module, SplitLinear] = {}

    def begin(self, first, count):
        """Starts a pass."""
        self.first, self.count = first, count
        for key in self.keys:
            key.call = 0

    @property
    def one_by_one(self):
        """Whether a pass must have one sample: the mask of unit dropout has no rows, so a pass has one mask."""
        return any(key.unit for key in self.keys)


class SampleKey(MaskKey):
    """Replaces a module's mask key while sampling. The module's own key keeps its count."""

    def __init__(self, run, seed, stream, unit):
        super().__init__(seed, stream)
        self.run, self.unit = run, unit
        self.call = 0  # number of the call in this pass

    def next_key(self, rows):
        each, rest = divmod(rows, self.run.count)
        if rest:
            raise ValueError(
                f"x must have its examples along dimension 0, all the way through the model, or batch must be 1; "
                f"got a layer with {rows} rows for {self.run.count} samples"
            )
        step, row0 = self.call, self.run.first * each
        if self.unit:
            step, row0 = self.call * self.run.samples + self.run.first, 0
        self.call += 1
        return operators.signed(self.seed), self.stream, step, row0, 0, 1, 0, None

    def count(self):
        self.call += 1


class SplitLinear:
    """A Linear in two parts: its product, the same for all samples of one x, and its dropout."""

    def __init__(self, module, form, run):
        self.module, self.form, self.run = module, form, run
        self.cache = {}  # call within a pass: x of one sample and its product, or None where the samples' x differ

    def product(self, x):
        """x wᵀ + b, and the activation, if it comes before the dropout."""
        activation = "identity" if self.form.dropout_first else self.form.activation
        return functional.linear(x, self.module.weight, self.module.bias, activation=activation)

    def drop(self, product):
        """y of all samples of the pass, [count R, ..., N], from the product of one, [R, ..., N]."""
        form = self.form
        repeated = product.expand(self.run.count, *product.shape)
        key = self.module.mask_key.next_key(repeated[..., 0].numel())
        y = apply_dropout(repeated, form.p, *key, form.granularity, "inverted").flatten(0, 1)
        return fusedrop.activate(y, form.activation) if form.dropout_first else y

    def forward(self, x, **residual):
        """The module's forward. It uses the cached product if there is one."""
        product = self.cached_product(x)
        if product is None:
            return type(self.module).forward(self.module, x, **residual)
        y = self.drop(product)
        return y if residual.get("residual") is None else residual["residual"] + y

    def cached_product(self, x):
        """One sample's product if x repeats one sample, the same in each pass; else None."""
        call, count = self.module.mask_key.call, self.run.count
        if x.dim() < 2 or x.shape[0] % count or self.cache.get(call, ()) is None:
            return None
        samples = x.reshape(count, x.shape[0] // count, *x.shape[1:])
        one, product = self.cache.get(call) or (samples[0].clone(), None)  # a copy: the caller may write to x later
        self.cache[call] = None
        if one.shape == samples.shape[1:] and torch.equal(samples, one.expand_as(samples)):
            product = self.product(one) if product is None else product
            self.cache[call] = one, product
            return product
        return None


class Form(NamedTuple):
    """What a linear layer does after its product."""

    activation: str
    p: float
    dropout_first: bool
    granularity: str


def form_of(module):
    """The form of a linear layer whose only mask is that of its output. None for any other module."""
    form = None
    if "forward" in vars(module):
        return None
    if isinstance(module, Linear) and type(module).forward is Linear.forward and module.input_p == 0:
        form = Form(module.activation, module.p, module.dropout_first, module.granularity)
    elif type(module) is FusedLinear and module.fused_group.dropout is not None:
        group = module.fused_group
        form = Form(group.activation_name, group.dropout.p, group.dropout_first, "element")
    return form if form is not None and form.p > 0 else None


@contextmanager
def sampling(model, stage, seed, samples):
    """Inside the context masks are drawn for samples, and all else is in eval mode. On exit all is as it was.

    Each Linear inside `stage`, the part of the model with the first mask, caches a product that all samples share.
    torch's own dropouts follow its generator, which starts from `seed` and is restored on exit.
    """
    run = Run(samples)
    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)
        undo.enter_context(uncompiled())
        # Otherwise torch's encoder layers, in eval mode, take a fast path that skips the dropouts inside them.
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
            module.training = drops(module)
        for stream, module in enumerate(masked_modules(model).values()):
            unit = getattr(module, "granularity", "element") == "unit"
            run.keys.append(SampleKey(run, seed, stream, unit))
            undo.callback(setattr, module, "mask_key", module.mask_key)
            module.mask_key = run.keys[-1]
        for module, form in [(m, f) for m in stage.modules() if (f := form_of(m)) is not None]:
            run.split_linears[module] = SplitLinear(module, form, run)
            undo.callback(vars(module).pop, "forward", None)
            module.forward = run.split_linears[module].forward
        yield run


def uncompiled():
    """A context without torch.compile, which would compile a module again for every SampleKey."""
    compiler_is_loaded = "torch._dynamo" in sys.modules  # loading it takes a second
    return torch.compiler.set_stance("force_eager") if compiler_is_loaded else nullcontext()
