"""How a module names its masks: (seed, stream, step), new for each training call, the same in its recomputation.

seed given       the mask of a call is (seed, stream, step); the step counts the module's training calls, from 0.
seed not given   each training call takes a seed from torch's default CPU generator, as torch.nn.Dropout takes its
                 numbers, so that torch.manual_seed, fork_rng, saved generator states and DataLoader workers act on it
                 in the usual way: the mask is (that seed, stream, 0).

Both take one number from the generator. torch.utils.checkpoint sets the generator back before it recomputes, so there
the number comes again, and tells which step is being repeated.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch

import fusedrop
from fusedrop.torch import operators

_streams = itertools.count()
STEPS_KEPT = 4096  # calls of one module that may wait for their recomputation


class MaskName:
    """One module's place in the mask contract.

    Args:
        seed: an integer in [0, 2^64), or None to follow torch's generator.
        stream: an integer in [0, 2^32), or None: 0 without a seed; with one, the process's next number, so that no two
            modules share a mask by accident. `fusedrop.torch.name_masks` numbers a whole model by position.
    """

    def __init__(self, seed=None, stream=None):
        if stream is None:
            stream = 0 if seed is None else next(_streams)
        self.calls = torch.zeros((), dtype=torch.int64, device="cpu")
        self.rows = (0, 1)  # this process's part of the batch: index and count, see shard_rows
        self.place(seed, stream, 0)

    def place(self, seed, stream, step):
        """A new name, counted from `step`."""
        checked = fusedrop.Philox(0 if seed is None else seed, stream, step)
        self.seed = None if seed is None else checked.seed
        self.stream = checked.stream
        self.step = checked.step
        self._steps: OrderedDict[int, int] = OrderedDict()
        self.last = None

    @property
    def step(self):
        """Training calls so far: the next call's step."""
        return int(self.calls)

    @step.setter
    def step(self, step):
        # A tensor, for compiled code recompiles where an integer changes; filled in place, for it may be captured.
        self.calls.fill_(step)

    @property
    def rng(self):
        """The `fusedrop.Philox` of the last training call that drew a mask (not of compiled ones), or None."""
        if self.last is None:
            return None
        seed, stream, step, row0 = self.last
        return fusedrop.Philox(operators.unsigned(seed), stream, step, row0)

    def take(self, rows):
        """The operator's integers for a training call on `rows` rows; counts the call, unless it is a recomputation."""
        index, _ = self.rows
        seed, step = self._take_compiled() if torch.compiler.is_compiling() else self._take()
        row0 = index * rows
        if not torch.compiler.is_compiling():
            self.last = seed, self.stream, step, row0
        return seed, self.stream, step, row0, 0, 1, 0

    def _take(self):
        ticket = torch.empty((), dtype=torch.int64).random_().item()
        if torch._C._current_graph_task_id() != -1:
            step = self._recomputed(ticket)
        else:
            step = self.calls.item()
            self.calls.add_(1)
            self._steps[ticket] = step
            if len(self._steps) > STEPS_KEPT:
                self._steps.popitem(last=False)
        return (ticket, 0) if self.seed is None else (operators.signed(self.seed), step)

    def _take_compiled(self):
        """The same in operators that a compiler keeps as they are; it saves their results for backward by itself."""
        step = self.calls.item()
        ticket = operators.draw(self.calls).item()
        return (ticket, 0) if self.seed is None else (operators.signed(self.seed), step)

    def _recomputed(self, ticket):
        """The step of the call that a running backward pass repeats."""
        if ticket not in self._steps:
            raise RuntimeError(
                "a fusedrop layer was called inside a backward pass, and not as the repetition of an earlier call: "
                "checkpoint with preserve_rng_state=True (the default), or use fusedrop.torch.linear with rng="
            )
        return self._steps[ticket]

    def count(self):
        """A training call that draws no mask."""
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            self.calls.add_(1)

    def __getstate__(self):
        """A copy goes on from the same step, and has no calls to repeat."""
        return self.__dict__ | {"_steps": OrderedDict(), "calls": self.calls.clone()}

    def __repr__(self):
        return f"seed={self.seed}, stream={self.stream}"
