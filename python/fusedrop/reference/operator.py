"""How `op` is made from `op_forward`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def output_only(forward: Callable[..., tuple]) -> Callable[..., Any]:
    """`op` from `op_forward`: the same arguments, and all results but the context."""

    @functools.wraps(forward)
    def op(*args, **options):
        results = forward(*args, **options)[:-1]
        return results[0] if len(results) == 1 else results

    op.__name__ = op.__qualname__ = forward.__name__.removesuffix("_forward")
    op.__doc__ = f"All results of `{forward.__name__}` but the context."
    return op
