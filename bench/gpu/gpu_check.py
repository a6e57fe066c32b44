"""Checks the results of our layer on sampled rows and columns, before anything is timed.

fusedrop.dropout_mask draws the masks on the CPU; they must be equal, element by element. Values are compared with
float64, within a bound of the rounding errors: 3 K eps times the sum of magnitudes for a float32 sum of K products (and
2^-10 times it where TF32 rounds the factors), and one rounding for each array that is stored in 16 bits.
"""

from __future__ import annotations

import fusedrop as fd
import torch

from bench.gpu.gpu_peers import RNG, Problem, our_layer

SAMPLED = 32  # rows of x and dy, and columns of y
EPS = 2.0**-23
STORED = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": EPS, "tf32": EPS}
LEAST = {"bfloat16": 0.0, "float16": 2.0**-25, "float32": 0.0, "tf32": 0.0}  # absolute error below the normal numbers
CUT = {"bfloat16": 0.0, "float16": 0.0, "float32": 0.0, "tf32": 2.0**-10}


class WrongResult(Exception):
    """The message names the wrong array and the size of its error."""


def keep_of(problem: Problem, rng: fd.Philox = RNG) -> torch.Tensor:
    """The mask [M, N] as the CPU draws it, on the problem's device."""
    mask = fd.dropout_mask((problem.M, problem.N), p=problem.p, rng=rng)
    return torch.from_numpy(mask).to(problem.device)


def masks_equal(problem: Problem) -> bool:
    """Compares standalone dropout of ones, and the zeros of a layer, with the CPU's mask."""
    keep = keep_of(problem)
    x, w, b, _ = problem.sets[0]
    ones = torch.ones(problem.M, problem.N, dtype=x.dtype, device=x.device)
    alone = fd.dropout(ones, p=problem.p, rng=RNG) != 0
    plain, dropped = (our_layer(x, w, b, save=False, p=p) != 0 for p in (0.0, problem.p))
    in_layer = not (dropped & ~keep).any() and not (plain & keep & ~dropped).any()
    return torch.equal(alone, keep) and in_layer


def value_shares(problem: Problem) -> dict[str, float]:
    """The largest error of y, dx, dw, db over its bound. Raises WrongResult for one above 1."""
    x, w, b, dy = problem.sets[0]
    y, saved = our_layer(x, w, b, save=True, p=problem.p)
    got = dict(zip(("dx", "dw", "db"), fd.linear_backward(dy, saved), strict=True))
    keep = keep_of(problem)
    rows, cols = (
        torch.randperm(n, generator=torch.Generator().manual_seed(1))[:SAMPLED].to(x.device)
        for n in (problem.M, problem.N)
    )
    shares = {}
    by_row = _Reference(problem, x[rows], w, b, dy[rows], keep[rows])
    shares["y"] = _share(y[rows], by_row.y, by_row.y_bound)
    shares["dx"] = _share(got["dx"][rows], *by_row.product(by_row.w, by_row.dz, by_row.dz_error))
    by_col = _Reference(problem, x, w[cols], b[cols], dy[:, cols], keep[:, cols])
    shares["dw"] = _share(got["dw"][cols], *by_col.product(by_col.x, by_col.dz.T, by_col.dz_error.T))
    ones = torch.ones(problem.M, 1, dtype=torch.float64, device=x.device)
    db, db_bound = by_col.product(ones, by_col.dz.T, by_col.dz_error.T, cut=0.0)
    shares["db"] = _share(got["db"][cols], db[:, 0], db_bound[:, 0])
    for name, share in shares.items():
        if not share <= 1:  # NaN fails too
            raise WrongResult(f"{name} of {problem.shape} {problem.dtype}: an error of {share:.3g} times its bound")
    return shares


class _Reference:
    """y and dz in float64 for some rows or columns, with bounds."""

    def __init__(self, problem, x, w, b, dy, keep):
        self.x, self.w, b, dy = (t.double() for t in (x, w, b, dy))
        self.stored, self.least, self.cut = (table[problem.dtype] for table in (STORED, LEAST, CUT))
        scale = 65536 / (65536 - round(problem.p * 65536))
        z = (self.x @ self.w.T + b).requires_grad_()
        size = self.x.abs() @ self.w.abs().T + b.abs()
        z_error = (3 * problem.K * EPS + self.cut) * size
        act = torch.nn.functional.gelu(z)
        (slope,) = torch.autograd.grad(act.sum(), z)
        z, act = z.detach(), act.detach()
        self.y = torch.where(keep, act * scale, 0)
        # |gelu'| < 1.13 and |gelu''| < 0.8; z and dz are rounded to the type of the arrays before they are used
        self.y_bound = torch.where(keep, scale * (1.2 * z_error + 16 * EPS * act.abs()) + self.least, 0)
        self.y_bound += self.stored * self.y.abs()
        self.dz = torch.where(keep, dy * scale * slope, 0)
        through_z = dy.abs() * scale * (z_error + self.stored * z.abs() + 16 * EPS)
        self.dz_error = torch.where(keep, through_z + self.least, 0) + self.stored * self.dz.abs()

    def product(self, right, left, left_error, cut=None):
        """left @ right and its bound, for left = dz or its transpose."""
        result = left @ right
        sums = left.abs() @ right.abs()
        factors = (3 * left.shape[1] * EPS + (self.cut if cut is None else cut)) * sums
        return result, factors + left_error @ right.abs() + self.stored * result.abs() + self.least


def _share(got, want, bound):
    error = (got.double() - want).abs()
    return float(torch.where(error == 0, 0, error / bound.clamp_min(1e-300)).max())
