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
import os
import secrets
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, unset_fake_temporarily

import fusedrop
from fusedrop.torch import operators

_streams = itertools.count()
_programs: dict[int, Calls] = {}  # of exported programs, whose modules may be gone: they count from 0 again
_lock = threading.Lock()  # two threads in one module: two steps
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_modules: weakref.WeakValueDictionary[int, Calls] = weakref.WeakValueDictionary()
HIGHEST = 2**63 - 1
CALLS_KEPT = 4096  # calls of one module that may wait for their recomputation


@dataclass(slots=True)
class Call:
    """One call that drew a mask."""

    step: int
    ambiguous: bool = False  # another call that nobody repeated yet came with the same number of the generator
    repeated: bool = False
    drawn: torch.Tensor | None = None  # its (seed, step) in a GPU's memory


class Calls:
    """The training calls of one module: how many, and which came with which number of torch's generator.

    Compiled code finds it by the number in `handle`: it would recompile where an integer changes, and what it counts
    itself it counts again where a checkpoint repeats it. It adds to `maskless` alone, which nothing depends on.
    """

    def __init__(self, step=0, number=None):
        number = secrets.randbits(62) if number is None else number
        with torch.inference_mode(False), unset_fake_temporarily():  # usable elsewhere, wherever the module was made
            self.handle = torch.tensor(number, dtype=torch.int64, device="cpu")
            self.maskless = torch.zeros((), dtype=torch.int64, device="cpu")
        self.counted = step
        self.named_by_step = False
        self._waiting: OrderedDict[int, Call] = OrderedDict()
        _modules[number] = self

    @property
    def step(self):
        return self.counted + int(self.maskless)

    def restart(self, step, named_by_step):
        """Counts from `step`, and has no calls to repeat."""
        with unset_fake_temporarily():
            self.maskless.zero_()  # in place: compiled code holds it
        self.counted, self.named_by_step = step, named_by_step
        self._waiting.clear()

    def take(self):
        """The generator's next number; the step of this call, or of the one that a backward pass repeats with it."""
        try:
            number = torch.randint(HIGHEST, (), dtype=torch.int64, device="cpu").item()
        except DataDependentOutputException:  # FakeTensorMode: shapes alone, and nothing is drawn or counted
            return 0, 0
        if torch._C._current_graph_task_id() != -1:
            return number, self._repeated(number)
        with _lock:
            step = self.step if self.named_by_step else self.counted  # a name without the step needs no exact one
            self.counted += 1
            earlier = self._waiting.pop(number, None)
            self._waiting[number] = Call(step, ambiguous=earlier is not None and not earlier.repeated)
            if len(self._waiting) > CALLS_KEPT:
                self._waiting.popitem(last=False)
        return number, step

    def _repeated(self, number):
        call = self._waiting.get(number)
        if call is None:
            raise RuntimeError(
                "a fusedrop layer was called inside a backward pass, and not as the repetition of an earlier call: "
                "checkpoint with preserve_rng_state=True (the default), or use fusedrop.torch.linear with rng="
            )
        if call.ambiguous and self.named_by_step:
            raise RuntimeError(
                "a backward pass repeats one of two calls of a fusedrop layer that found torch's generator in the same "
                "state, and can't tell which: don't set the generator back between them, or use seed=None"
            )
        call.repeated = True
        return call.step

    def drawn(self, number, handle):
        """(seed, step) of the call that came with this number, in memory: the next of `handle`, or the repeated one."""
        call = self._waiting.get(number, Call(0))  # none where shapes alone are wanted
        if call.drawn is None:
            call.drawn = operators.draw(handle, None)
        return call.drawn

    def __getstate__(self):
        return {"step": self.step, "named_by_step": self.named_by_step}

    def __setstate__(self, state):
        """A copy goes on from the same step, and has no calls to repeat."""
        self.__init__(state["step"])
        self.named_by_step = state["named_by_step"]


def _draw(handle, seed):
    if handle.dim() == 1:  # (seed, step) in a GPU's memory: a graph that captures this counts at each replay
        drawn = handle.clone()
        handle[1] += 1
        return drawn
    key = handle.item()
    calls = _modules.get(key) or _programs.setdefault(key, Calls(number=key))
    number, step = calls.take()
    return torch.tensor((number, 0) if seed is None else (seed, step), dtype=torch.int64, device="cpu")


operators.LIBRARY.impl("draw", _draw, "CompositeExplicitAutograd")


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
        self.calls = Calls()
        self.shard = 0  # which of the batch's equal parts this process has, see shard_rows
        self.place(seed, stream, 0)

    def place(self, seed, stream, step):
        """A new name, counted from `step`."""
        checked = fusedrop.Philox(0 if seed is None else seed, stream, step)
        self.seed = None if seed is None else checked.seed
        self.stream = checked.stream
        self.calls.restart(checked.step, named_by_step=seed is not None)
        self.last = self.in_memory = None

    def draw_on(self, device):
        """Keep seed and step in that GPU's memory from now on, where each training call counts a step.

        A captured CUDA graph then draws a new mask at each replay; without, its capture is refused, for it would repeat
        one. Without a seed, one is taken from torch's generator. For eager calls, captured or not: compiled code, which
        may copy what it takes for a constant, is refused.
        """
        seed = torch.randint(HIGHEST, (), dtype=torch.int64, device="cpu").item() if self.seed is None else self.seed
        step, self.calls.named_by_step = self.step, True
        with torch.inference_mode(False):
            self.in_memory = torch.tensor((operators.signed(seed), step), dtype=torch.int64, device=device)

    @property
    def step(self):
        """Training calls so far: the next call's step. Waits for the GPU where it is kept there."""
        return self.calls.step if self.in_memory is None else int(self.in_memory[1])

    @property
    def rng(self):
        """The `fusedrop.Philox` of the last training call that drew a mask (not compiled, nor in memory), or None."""
        if self.last is None:
            return None
        seed, stream, step, row0 = self.last
        return fusedrop.Philox(operators.unsigned(seed), stream, step, row0)

    def take(self, rows):
        """The operator's name for a training call on `rows` rows; counts the call, unless it is a recomputation."""
        seed = None if self.seed is None else operators.signed(self.seed)
        row0 = self.shard * rows
        if self.in_memory is not None:
            return self._take_in_memory(row0)
        if torch.compiler.is_compiling():
            # An operator that compilers keep, and repeat, in a checkpoint, from the same state of the generator.
            return 0, self.stream, 0, row0, 0, 1, 0, operators.draw(self.calls.handle, seed)
        operators.refuse_capture()
        number, step = self.calls.take()
        seed, step = (number, 0) if seed is None else (seed, step)
        self.last = seed, self.stream, step, row0
        return seed, self.stream, step, row0, 0, 1, 0, None

    def _take_in_memory(self, row0):
        if torch.compiler.is_compiling():
            raise RuntimeError("a module whose masks are named in a GPU's memory (draw_on) can't be compiled")
        number, _ = self.calls.take()
        return 0, self.stream, 0, row0, 0, 1, 0, self.calls.drawn(number, self.in_memory)

    def count(self):
        """A training call that draws no mask."""
        if self.in_memory is not None:
            if torch._C._current_graph_task_id() == -1:
                self.in_memory[1] += 1
        elif torch.compiler.is_compiling():
            self.calls.maskless.add_(1)
        elif torch._C._current_graph_task_id() == -1:
            self.calls.counted += 1

    def __repr__(self):
        return f"seed={self.seed}, stream={self.stream}"
