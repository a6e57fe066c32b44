"""linear for tensors equals linear_forward and linear_backward for arrays, bit for bit: random shapes and options."""

import math

import fusedrop as fd
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
SIZE = st.integers(0, 40)
RATE = st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 1.0])
LAYOUTS = ["contiguous", "transposed", "sliced", "offset", "expanded"]


@st.composite
def cases(draw):
    u32 = st.integers(0, 2**32 - 1)
    granularity = draw(st.sampled_from(["element", "unit"]))
    return {
        "lead": tuple(draw(st.lists(st.integers(0, 6), max_size=3))) if draw(st.booleans()) else (draw(SIZE),),
        "inner": (draw(SIZE), draw(SIZE)),
        "dtype": draw(st.sampled_from(list(DTYPES))),
        "layouts": draw(st.lists(st.sampled_from(LAYOUTS), min_size=5, max_size=5)),
        "bias": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "wanted": draw(st.lists(st.booleans(), min_size=4, max_size=4)),
        "options": {
            "activation": draw(st.sampled_from(fd.activations)),
            "p": draw(RATE),
            "input_p": draw(RATE),
            "dropout_first": draw(st.booleans()),
            "granularity": granularity,
            "rng": fd.Philox(draw(st.integers(0, 2**64 - 1)), draw(u32), draw(u32), draw(st.integers(0, 2**31))),
        },
    }


def laid_out(shape, layout, dtype, generator):
    """Normal numbers of this shape, in memory of this layout. Memory between the elements is NaN."""
    values = torch.randn(shape, generator=generator).to(dtype)
    if layout == "transposed" and len(shape) > 1:
        return values.mT.contiguous().mT
    if layout == "expanded" and shape and shape[0] > 1:
        return values[:1].expand(shape)
    if layout == "sliced" and shape:
        wide = torch.full((*shape[:-1], 2 * shape[-1] + 1), math.nan, dtype=dtype)
        return wide[..., 1::2].copy_(values)
    if layout == "offset" and shape:
        wide = torch.full(tuple(n + 3 for n in shape), math.nan, dtype=dtype)
        return wide[tuple(slice(2, 2 + n) for n in shape)].copy_(values)
    return values


def as_array(tensor, rows=None):
    """A contiguous copy for the functions of fusedrop: a NumPy array; a tensor for bfloat16, which NumPy may lack."""
    if tensor is None:
        return None
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    tensor = tensor if rows is None else tensor.reshape(rows, tensor.shape[-1])
    return tensor if tensor.dtype == torch.bfloat16 else tensor.numpy()


def bits(value):
    """The value's bits, to compare so that NaN equals NaN and 0 differs from -0."""
    value = value.detach() if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    return value.contiguous().view(kind)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(case=cases())
@example(
    case={
        "lead": (),
        "inner": (0, 0),
        "dtype": "float32",
        "layouts": LAYOUTS,
        "bias": True,
        "residual": True,
        "wanted": [True] * 4,
        "options": {"activation": "gelu", "p": 0.5, "input_p": 0.5, "rng": fd.Philox(2**64 - 1, 2**32 - 1, 2**32 - 1)},
    }
)
def test_values_and_gradients_are_those_of_the_functions_for_arrays(case):
    (k, n), lead, dtype, options = case["inner"], case["lead"], DTYPES[case["dtype"]], case["options"]
    generator = torch.Generator().manual_seed(k + 41 * n)
    shapes = (*lead, k), (n, k), (n,), (*lead, n), (*lead, n)
    made = [laid_out(shape, way, dtype, generator) for shape, way in zip(shapes, case["layouts"], strict=True)]
    x, w, b, residual, dy = made
    b, residual = (b if case["bias"] else None), (residual if case["residual"] else None)
    operands = [x, w, b, residual]
    leaves = [t for t, needed in zip(operands, case["wanted"], strict=True) if t is not None and needed]
    for leaf in leaves:
        leaf.requires_grad_()
    y = ft.linear(x, w, b, residual=residual, **options)

    rows = math.prod(lead)
    arrays = [as_array(x, rows), as_array(w), as_array(b)]
    y_wanted, saved = fd.linear_forward(
        *arrays, residual=None if residual is None else as_array(residual, rows), **options
    )
    assert y.shape == (*lead, n)
    assert torch.equal(bits(y).reshape(rows, n), bits(y_wanted))
    assert y.requires_grad == bool(leaves)
    if not leaves:
        return
    y.backward(dy)
    wanted = [*fd.linear_backward(as_array(dy, rows), saved), as_array(dy, rows)]
    for operand, gradient in zip(operands, wanted, strict=True):
        if operand is not None and operand.requires_grad:
            assert operand.grad.shape == operand.shape
            assert torch.equal(bits(operand.grad).reshape(-1), bits(gradient).reshape(-1))
