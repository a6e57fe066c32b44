"""The libraries that fusedrop is compared with. One that is not installed is reported as absent.

Each peer has methods without arguments for one problem: `matmul` (x wᵀ alone), `three_matmuls` (the products of forward
and backward), `forward` and `forward_backward` (linear + relu + dropout, written as the library's users write it).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import fusedrop as fd
import numpy as np


def dtype_of(name: str) -> np.dtype:
    """NumPy's dtype; that of bfloat16 comes from ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Problem:
    """Random normal operands: x [M, K], w [N, K], b [N], dy [M, N]."""

    M: int
    K: int
    N: int
    dtype: str
    p: float = 0.5
    activation: str = "relu"

    def __post_init__(self):
        rng = np.random.default_rng(0)
        for name, shape in {
            "x": (self.M, self.K),
            "w": (self.N, self.K),
            "b": (self.N,),
            "dy": (self.M, self.N),
        }.items():
            object.__setattr__(self, name, rng.standard_normal(shape, np.float64).astype(dtype_of(self.dtype)))

    @property
    def flop(self) -> int:
        return 2 * self.M * self.N * self.K


class Fusedrop:
    name = "fusedrop"

    def __init__(self, problem: Problem):
        self.problem, self.rng = problem, fd.Philox(seed=1)

    def forward(self, p=None):
        q = self.problem
        p = q.p if p is None else p
        return fd.linear_forward(q.x, q.w, q.b, activation=q.activation, p=p, rng=self.rng)

    def forward_backward(self):
        y, saved = self.forward()
        return y, *fd.linear_backward(self.problem.dy, saved)


class NumPy:
    name = "numpy"

    def __init__(self, problem: Problem):
        self.problem = problem

    def matmul(self):
        return self.problem.x @ self.problem.w.T

    def three_matmuls(self):
        q = self.problem
        return q.x @ q.w.T, q.dy @ q.w, q.dy.T @ q.x


class Torch:
    """MKL's matmul through torch.mm, and the eager layer."""

    name = "torch"

    def __init__(self, problem: Problem):
        import torch

        torch.set_num_threads(fd.config.get_num_threads())
        self.torch, self.problem = torch, problem
        self.x, self.w, self.b, self.dy = (self.tensor(a) for a in (problem.x, problem.w, problem.b, problem.dy))
        self.trained = [t.clone().requires_grad_() for t in (self.x, self.w, self.b)]

    def tensor(self, a):
        """A tensor on the same memory. PyTorch does not know NumPy's bfloat16, so its bits go through int16."""
        if self.problem.dtype == "bfloat16":
            return self.torch.from_numpy(a.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(a)

    def matmul(self):
        return self.torch.mm(self.x, self.w.t())

    def three_matmuls(self):
        mm = self.torch.mm
        return mm(self.x, self.w.t()), mm(self.dy, self.w), mm(self.dy.t(), self.x)

    def layer(self, x, w, b):
        f = self.torch.nn.functional
        return f.dropout(getattr(f, self.problem.activation)(f.linear(x, w, b)), self.problem.p, training=True)

    def forward(self):
        with self.torch.no_grad():
            return self.layer(self.x, self.w, self.b)

    def forward_backward(self):
        y = self.layer(*self.trained)
        return y, *self.torch.autograd.grad(y, self.trained, self.dy)


class TorchCompile(Torch):
    name = "torch.compile"

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.torch._dynamo.reset()
        self.layer = self.torch.compile(self.layer)


class Jax:
    name = "jax"

    def __init__(self, problem: Problem):
        import jax

        if problem.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.jax, self.key = jax, jax.random.key(1)
        self.operands = tuple(jax.numpy.asarray(a) for a in (problem.x, problem.w, problem.b))
        self.dy = jax.numpy.asarray(problem.dy)

        def layer(key, x, w, b):
            y = getattr(jax.nn, problem.activation)(x @ w.T + b)
            return jax.numpy.where(jax.random.bernoulli(key, 1 - problem.p, y.shape), y / (1 - problem.p), 0)

        def both(key, dy, x, w, b):
            y, pull = jax.vjp(lambda *operands: layer(key, *operands), x, w, b)
            return y, *pull(dy)

        self.jit_forward, self.jit_both = jax.jit(layer), jax.jit(both)

    def forward(self):
        return self.jit_forward(self.key, *self.operands).block_until_ready()

    def forward_backward(self):
        return self.jax.block_until_ready(self.jit_both(self.key, self.dy, *self.operands))


PEERS = {peer.name: peer for peer in (NumPy, Torch, TorchCompile, Jax)}
MODULES = {"numpy": "numpy", "torch": "torch", "torch.compile": "torch", "jax": "jax", "keras": "keras"}


# NumPy multiplies bfloat16 one scalar at a time, too slow for a comparison.
LACKING = {"bfloat16": {"numpy"}, "float64": set(), "float32": set()}


def installed(names: list[str]) -> tuple[list[str], list[str]]:
    """`names`, split into (present, absent)."""
    present = [name for name in names if importlib.util.find_spec(MODULES[name]) is not None]
    return present, [name for name in names if name not in present]
