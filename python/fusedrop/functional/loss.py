"""Losses as pure functions."""

from __future__ import annotations

import numpy as np

from fusedrop import _core, checks


def softmax_cross_entropy(logits, labels):
    """Mean over the rows of -Σ_j t_ij log softmax(z_i)_j, and its gradient by the logits.

    Args:
        logits: z [M, N], float32, float64 or bfloat16.
        labels: classes [M], integers in [0, N); or probabilities t [M, N] (one-hot among them), rows summing to 1.

    Returns:
        (loss, dlogits): a float, and (softmax(z) - t) / M as an array like logits. M = 0 gives 0.0.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    _check_logits(logits)
    target = target_rows(labels, *logits.shape, logits.dtype)
    classes, rows = (target, None) if target.ndim == 1 else (None, target)
    return _core.softmax_cross_entropy(np.ascontiguousarray(logits), classes, rows)


def _check_logits(logits):
    checks.floating_array(logits, "logits")
    if logits.ndim != 2 or (logits.shape[1] == 0 and logits.shape[0] > 0):
        raise ValueError(f"logits must be [M, N] with N >= 1; got {list(logits.shape)}")


def target_rows(labels, m, n, dtype):
    """labels as int64 [M] or as rows of probabilities [M, N] of this dtype, C-contiguous."""
    labels = np.asarray(labels)
    if labels.ndim == 1:
        if labels.dtype.kind not in "iu":
            raise TypeError(f"labels [M] must be integers; got {labels.dtype}")
        if len(labels) != m:
            raise ValueError(f"labels must be [M] = [{m}] to match logits [{m}, {n}]; got [{len(labels)}]")
        if m and not (labels.min() >= 0 and labels.max() < n):
            raise ValueError(
                f"labels must be in [0, {n}) to match logits [{m}, {n}]; got {labels.min()} to {labels.max()}"
            )
        return np.ascontiguousarray(labels, np.int64)
    if labels.shape != (m, n):
        got = list(labels.shape)
        raise ValueError(f"labels must be [M] = [{m}] or [M, N] = [{m}, {n}] to match logits; got {got}")
    if labels.dtype.kind not in "biuf" and not checks.is_floating(labels.dtype):
        raise TypeError(f"labels [M, N] must be real numbers; got {labels.dtype}")
    wrong = (labels < 0).any(axis=1) | ~(np.abs(labels.sum(axis=1) - 1) < 1e-3)
    if wrong.any():
        got = labels[wrong.argmax()]
        raise ValueError(f"labels [M, N] must be rows of probabilities >= 0 that sum to 1; got {got}")
    return np.ascontiguousarray(labels, dtype)
