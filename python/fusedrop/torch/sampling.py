"""A model while samples are drawn from it: which mask each sample gets, and what is computed once for all of them.

Several samples share a pass of the model: x [R, ...] repeated along dimension 0, sample after sample. Sample s of a
layer with R rows has the rows from s R on of one mask, named (seed, place in the model, 0), so that how many samples
share a pass changes no mask. A layer that is called again in the same pass takes the next step.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NamedTuple

import torch

import fusedrop
from fusedrop.torch import functional, operators
from fusedrop.torch.derivatives import apply_dropout
from fusedrop.torch.fused_modules import FusedLinear
from fusedrop.torch.models import draws_masks, masked_modules
from fusedrop.torch.modules import Linear
from fusedrop.torch.naming import MaskName

TORCH_DROPOUTS = (  # what drops in training mode, and does nothing else there
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
    """Whether this module itself, not one inside it, drops anything in training mode."""
    if not isinstance(module, TORCH_DROPOUTS) and not draws_masks(module):
        return False
    rates = [getattr(module, name) for name in ("p", "dropout", "input_dropout") if hasattr(module, name)]
    return any(rates) or not rates


class Run:
    """The samples of one call, of which the present pass of the model draws `count`, from number `first` on."""

    def __init__(self, samples):
        self.samples, self.first, self.count = samples, 0, 1
        self.names: list[SampleName] = []
        self.halves: dict[torch.nn.Module, Halves] = {}

    def begin(self, first, count):
        """A new pass."""
        self.first, self.count = first, count
        for name in self.names:
            name.call = 0

    @property
    def one_by_one(self):
        """Unit dropout: a mask without rows can't be another one for each sample of a pass."""
        return any(name.unit for name in self.names)


class SampleName(MaskName):
    """Stands in for a module's name; what the module has counted stays with that."""

    def __init__(self, run, seed, stream, unit):
        super().__init__(seed, stream)
        self.run, self.unit = run, unit
        self.call = 0  # in this pass

    def take(self, rows):
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


class Halves:
    """A Linear in two halves: its product, the same for all samples of one x, and its dropout."""

    def __init__(self, module, form, run):
        self.module, self.form, self.run = module, form, run
        self.known = {}  # call within a pass: x of one sample and its product, or None where the samples' x differ

    def product(self, x):
        """x wᵀ + b, and the activation unless it comes after the dropout."""
        activation = "identity" if self.form.before else self.form.activation
        return functional.linear(x, self.module.weight, self.module.bias, activation=activation)

    def drop(self, product):
        """y of all samples of the pass, [count R, ..., N], from the product of one, [R, ..., N]."""
        form = self.form
        repeated = product.expand(self.run.count, *product.shape)
        name = self.module.masks.take(repeated[..., 0].numel())
        y = apply_dropout(repeated, form.p, *name, form.granularity, "inverted").flatten(0, 1)
        return fusedrop.activate(y, form.activation) if form.before else y

    def forward(self, x, **residual):
        """The module's forward, without the product where that is known."""
        product = self.known_product(x)
        if product is None:
            return type(self.module).forward(self.module, x, **residual)
        y = self.drop(product)
        return y if residual.get("residual") is None else residual["residual"] + y

    def known_product(self, x):
        """One sample's product if x repeats one sample, in each pass the same; else None."""
        call, count = self.module.masks.call, self.run.count
        if x.dim() < 2 or x.shape[0] % count or self.known.get(call, ()) is None:
            return None
        samples = x.reshape(count, x.shape[0] // count, *x.shape[1:])
        one, product = self.known.get(call) or (samples[0].clone(), None)  # a copy: x may be written to later
        self.known[call] = None
        if one.shape == samples.shape[1:] and torch.equal(samples, one.expand_as(samples)):
            product = self.product(one) if product is None else product
            self.known[call] = one, product
            return product
        return None


class Form(NamedTuple):
    """What a linear layer does after its product."""

    activation: str
    p: float
    before: bool  # dropout comes before the activation
    granularity: str


def form_of(module):
    """The form of a linear layer whose only mask lies on its output; None for any other module."""
    form = None
    if "forward" in vars(module):
        return None
    if isinstance(module, Linear) and type(module).forward is Linear.forward and module.input_dropout == 0:
        form = Form(module.activation, module.dropout, module.dropout_before_activation, module.granularity)
    elif type(module) is FusedLinear and module.fused_group.dropout is not None:
        group = module.fused_group
        form = Form(group.name, group.dropout.p, group.before, "element")
    return form if form is not None and form.p > 0 else None


@contextmanager
def sampling(model, stage, seed, samples):
    """Masks drawn for samples, all else in eval mode; afterwards everything is as it was, whatever happens.

    Each Linear inside `stage`, the part of the model with the first mask, keeps a product that all samples share.
    torch's own dropouts follow its generator, which starts from `seed` and is put back.
    """
    run = Run(samples)
    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)
        undo.enter_context(uncompiled())
        # In eval mode torch's encoder layers would otherwise take a path that passes by the dropouts inside them.
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
            module.training = drops(module)
        for stream, module in enumerate(masked_modules(model).values()):
            unit = getattr(module, "granularity", "element") == "unit"
            run.names.append(SampleName(run, seed, stream, unit))
            undo.callback(setattr, module, "masks", module.masks)
            module.masks = run.names[-1]
        for module, form in [(m, f) for m in stage.modules() if (f := form_of(m)) is not None]:
            run.halves[module] = Halves(module, form, run)
            undo.callback(vars(module).pop, "forward", None)
            module.forward = run.halves[module].forward
        yield run


def uncompiled():
    """Compiled modules would be compiled again for every name that stands in for theirs."""
    compiler_is_loaded = "torch._dynamo" in sys.modules  # loading it takes a second
    return torch.compiler.set_stance("force_eager") if compiler_is_loaded else nullcontext()
