"""The mask key of a module: (seed, stream, step), new for each training call, the same in its recomputation.

With a seed     the key of a call is (seed, stream, step). The step counts the module's training calls, from 0.
Without a seed  each training call takes a seed from torch's default CPU generator, as torch.nn.Dropout takes its
                numbers. torch.manual_seed, fork_rng, saved generator states and DataLoader workers then act on it in
                the usual way. The key is (that seed, stream, 0).

In both cases a call takes one number from the generator. torch.utils.checkpoint sets the generator back before it
recomputes, so a recomputation gets the number of the original call, and that number tells which step is repeated.
"""

from __future__ import annotations

import functools
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
_programs: dict[int, TrainingCalls] = {}  # of exported programs, whose modules may be gone: they count from 0 again
_lock = threading.Lock()  # two threads that call one module get two steps
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_modules: weakref.WeakValueDictionary[int, TrainingCalls] = weakref.WeakValueDictionary()
# The next number of torch's default CPU generator, as a tensor.
random_number = functools.partial(torch.randint, 2**63 - 1, (), dtype=torch.int64, device="cpu")
MAX_REPEATABLE_CALLS = 4096  # calls of one module that may still be recomputed


@dataclass(slots=True)
class Call:
    """One call that used a mask."""

    step: int
    ambiguous: bool = False  # an earlier call, not yet repeated, had the same number of the generator
    repeated: bool = False
    drawn: torch.Tensor | None = None  # its (seed, step) in a GPU's memory


class TrainingCalls:
    """The training calls of one module: how many, and which number of torch's generator each of them had.

    Compiled code finds this object by the number in `handle`. It cannot hold the count as an integer: it would be
    compiled again for each new value, and a checkpoint would repeat its own counting. It adds to `maskless` alone, on
    which no mask of a recomputation depends.
    """

    def __init__(self, step=0, number=None):
        number = secrets.randbits(62) if number is None else number
        with torch.inference_mode(False), unset_fake_temporarily():  # real tensors, wherever the module was made
            self.handle = torch.tensor(number, dtype=torch.int64, device="cpu")
            self.maskless = torch.zeros((), dtype=torch.int64, device="cpu")
        self.counted = step
        self.uses_step = False  # whether the step is part of the key
        self._repeatable: OrderedDict[int, Call] = OrderedDict()  # by the number of the generator
        _modules[number] = self

    @property
    def step(self):
        return self.counted + int(self.maskless)

    def restart(self, step, uses_step):
        """Counts from `step`, and forgets the calls that could be repeated."""
        with unset_fake_temporarily():
            self.maskless.zero_()  # in place: compiled code holds it
        self.counted, self.uses_step = step, uses_step
        self._repeatable.clear()

    def next_call(self):
        """The generator's next number, and the step: of a new call, or of the call that a backward pass repeats."""
        try:
            number = random_number().item()
        except DataDependentOutputException:  # FakeTensorMode computes shapes only: no number is taken, no call counted
            return 0, 0
        if torch._C._current_graph_task_id() != -1:
            return number, self._repeated(number)
        with _lock:
            step = self.step if self.uses_step else self.counted  # a key without the step needs no exact one
            self.counted += 1
            earlier = self._repeatable.pop(number, None)
            self._repeatable[number] = Call(step, ambiguous=earlier is not None and not earlier.repeated)
            if len(self._repeatable) > MAX_REPEATABLE_CALLS:
                self._repeatable.popitem(last=False)
        return number, step

    def _repeated(self, number):
        call = self._repeatable.get(number)
        if call is None:
            raise RuntimeError(
                "a fusedrop layer was called inside a backward pass, and not as the repetition of an earlier call: "
                "checkpoint with preserve_rng_state=True (the default), or use fusedrop.torch.linear with rng="
            )
        if call.ambiguous and self.uses_step:
            raise RuntimeError(
                "a backward pass repeats one of two calls of a fusedrop layer that found torch's generator in the same "
                "state, and can't tell which: don't set the generator back between them, or use seed=None"
            )
        call.repeated = True
        return call.step

    def drawn(self, number, handle):
        """(seed, step) in memory, for the call with this number: a repeated call's own, else the next of `handle`."""
        call = self._repeatable.get(number, Call(0))  # there is none in FakeTensorMode
        if call.drawn is None:
            call.drawn = operators.next_key(handle, None)
        return call.drawn

    def __getstate__(self):
        return {"step": self.step, "uses_step": self.uses_step}

    def __setstate__(self, state):
        """A copy continues from the same step, and has no calls to repeat."""
        self.__init__(state["step"])
        self.uses_step = state["uses_step"]


def _next_key(handle, seed):
    if handle.dim() == 1:  # (seed, step) in a GPU's memory: a captured graph counts a step at each replay
        drawn = handle.clone()
        handle[1] += 1
        return drawn
    module = handle.item()
    calls = _modules.get(module) or _programs.setdefault(module, TrainingCalls(number=module))
    number, step = calls.next_call()
    return torch.tensor((number, 0) if seed is None else (seed, step), dtype=torch.int64, device="cpu")


operators.LIBRARY.impl("next_key", _next_key, "CompositeExplicitAutograd")


class MaskKey:
    """The mask keys of one module: seed and stream are fixed, the step counts its training calls.

    Args:
        seed: an integer in [0, 2^64), or None to follow torch's generator.
        stream: an integer in [0, 2^32), or None. None is 0 without a seed. With a seed it is the process's next number,
            so that no two modules share a mask by accident. `fusedrop.torch.assign_mask_keys` numbers the modules of a
            model by position.
    """

    def __init__(self, seed=None, stream=None):
        if stream is None:
            stream = 0 if seed is None else next(_streams)
        self.calls = TrainingCalls()
        self.shard = 0  # index of this process's part among equal parts of the batch, see shard_rows
        self.place(seed, stream, 0)

    def place(self, seed, stream, step):
        """Sets a new key, and counts from `step`."""
        checked = fusedrop.Philox(0 if seed is None else seed, stream, step)
        self.seed = None if seed is None else checked.seed
        self.stream = checked.stream
        self.calls.restart(checked.step, uses_step=seed is not None)
        self.last = self.in_memory = None

    def store_on(self, device):
        """Keeps seed and step in that GPU's memory from now on. Each training call counts a step there.

        A captured CUDA graph then draws a new mask at each replay. Without `store_on` the capture raises an error,
        because each replay would repeat one mask. A module without a seed takes one from torch's generator. This is for
        eager calls, captured or not. Compiled code raises an error: it may copy what it takes for a constant.
        """
        seed = random_number().item() if self.seed is None else self.seed
        step, self.calls.uses_step = self.step, True
        with torch.inference_mode(False):
            self.in_memory = torch.tensor((operators.signed(seed), step), dtype=torch.int64, device=device)

    @property
    def step(self):
        """Number of training calls so far: the next call's step. Synchronizes with the GPU if it is stored there."""
        return self.calls.step if self.in_memory is None else int(self.in_memory[1])

    @property
    def rng(self):
        """The `fusedrop.Philox` of the last call with a mask, or None. Not for compiled calls, nor after `store_on`."""
        if self.last is None:
            return None
        seed, stream, step, row0 = self.last
        return fusedrop.Philox(operators.unsigned(seed), stream, step, row0)

    def next_key(self, rows):
        """The operators' key arguments for a training call on `rows` rows. Counts it if it is no recomputation."""
        seed = None if self.seed is None else operators.signed(self.seed)
        row0 = self.shard * rows
        if self.in_memory is not None:
            return self._next_key_in_memory(row0)
        if torch.compiler.is_compiling():
            # An operator: compilers keep it, and a checkpoint repeats it from the same state of the generator.
            return 0, self.stream, 0, row0, 0, 1, 0, operators.next_key(self.calls.handle, seed)
        operators.refuse_capture()
        number, step = self.calls.next_call()
        seed, step = (number, 0) if seed is None else (seed, step)
        self.last = seed, self.stream, step, row0
        return seed, self.stream, step, row0, 0, 1, 0, None

    def _next_key_in_memory(self, row0):
        if torch.compiler.is_compiling():
            raise RuntimeError("a module whose mask key is in a GPU's memory (store_on) can't be compiled")
        number, _ = self.calls.next_call()
        return 0, self.stream, 0, row0, 0, 1, 0, self.calls.drawn(number, self.in_memory)

    def count(self):
        """Counts a training call without a mask."""
        if self.in_memory is not None:
            if torch._C._current_graph_task_id() == -1:
                self.in_memory[1] += 1
        elif torch.compiler.is_compiling():
            self.calls.maskless.add_(1)
        elif torch._C._current_graph_task_id() == -1:
            self.calls.counted += 1

    def __repr__(self):
        return f"seed={self.seed}, stream={self.stream}"
