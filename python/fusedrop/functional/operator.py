"""How `op` is made from `op_forward`, so that they share one signature.

Every operator is a triple: `op` returns the output, `op_forward` returns the output and a context, `op_backward` takes
that context. The signature and its documentation are written once, on `op_forward`, and `op` is made from it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
Y = TypeVar("Y")
State = TypeVar("State")

SAVE = True
"""Argument of the kernels in every `op_forward`: save what the backward pass needs. False in the globals of `op`."""


@overload
def output_only(forward: Callable[P, tuple[Y, Any]], returns: str, summary: str) -> Callable[P, Y]: ...
@overload
def output_only(
    forward: Callable[P, tuple[Y, State, Any]], returns: str, summary: str
) -> Callable[P, tuple[Y, State]]: ...
def output_only(forward: Any, returns: str, summary: str) -> Any:
    """`op` from `op_forward`: the same arguments and errors, no context, and nothing saved for a backward pass.

    Both functions run the same code object, so that a call of `op` has no wrapper. They differ in one global, SAVE,
    which the code passes to the kernel. `op` sees the globals of its module as they are at this call: helpers of
    `op_forward` must be defined above it.

    Args:
        forward: the function `op_forward`; its module has imported SAVE.
        returns: the annotation of the result.
        summary: the first line of the documentation of `op`.
    """
    name = forward.__name__.removesuffix("_forward")
    op = types.FunctionType(forward.__code__, forward.__globals__ | {"SAVE": False}, name, forward.__defaults__)
    op.__kwdefaults__ = forward.__kwdefaults__
    op.__annotations__ = forward.__annotations__ | {"return": returns}
    op.__module__, op.__qualname__ = forward.__module__, name
    op.__doc__ = f"{summary}\n\nArgs:\n{_section(forward, 'Args')}\n\nRaises:\n{_section(forward, 'Raises')}\n"
    return op


def _section(function: Any, title: str) -> str:
    """The indented lines below `title:` in a docstring."""
    lines = inspect.cleandoc(function.__doc__ or "").partition(f"{title}:\n")[2].split("\n")
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return "\n".join(lines[:end]).rstrip()
