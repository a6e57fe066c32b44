"""Every operator is a triple op, op_forward, op_backward, and the reference has the same one."""

import inspect
import types
import typing

import fusedrop as fd
import numpy as np
import pytest

RNG = fd.Philox(seed=1, stream=2, step=3)
DESTINATIONS = {"out", "dx", "dw", "db", "dw_ih", "dw_hh"}  # the specification has none
RATES = {"p": 0.3, "input_p": 0.2, "rng": RNG}


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


# name: (arguments by position, options, results before the context)
CALLS = {
    "linear": ((normal(5, 6), normal(7, 6), normal(7)), {"activation": "gelu", "dropout_first": True, **RATES}, 1),
    "conv2d": ((normal(2, 3, 5, 6), normal(4, 3, 3, 2), normal(4)), {"stride": 2, "activation": "silu", **RATES}, 1),
    "lstm": (
        (normal(2, 3, 4), normal(20, 4), normal(20, 5), normal(20)),
        {"input_p": 0.3, "recurrent_p": 0.2, "rng": RNG, "return_sequences": True},
        2,
    ),
    "max_pool2d": ((normal(2, 3, 5, 6), 3), {"stride": 2, "padding": 1, "ceil_mode": True}, 1),
    "avg_pool2d": ((normal(2, 3, 5, 6), (2, 3)), {"count_include_pad": False, "padding": 1}, 1),
    "dropout": ((normal(3, 4, 5),), {"p": 0.3, "rng": RNG, "scaling": "classic"}, 1),
    "activate": ((normal(3, 4, 5), "gelu_tanh"), {}, 1),
}
each = pytest.mark.parametrize("name", CALLS)
modules = pytest.mark.parametrize("module", [fd, fd.reference], ids=["fusedrop", "reference"])


def arrays(results):
    """All arrays among nested tuples."""
    if isinstance(results, tuple):
        return [a for result in results for a in arrays(result)]
    return [results]


def bits(results):
    return [None if a is None else a.tobytes() for a in arrays(results)]


@each
@modules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_op_is_the_output_of_op_forward(module, name, dtype):
    given, options, count = CALLS[name]
    given = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in given]
    *results, context = getattr(module, f"{name}_forward")(*given, **options)
    alone = getattr(module, name)(*given, **options)
    assert len(results) == count
    assert bits(alone if count > 1 else (alone,)) == bits(tuple(results))
    assert type(context).__name__ in {
        "LinearContext",
        "Conv2dContext",
        "LSTMContext",
        "PoolContext",
        "DropoutContext",
        "ActivationContext",
    }


@each
def test_backward_takes_the_context_as_the_reference_does(name):
    """Shapes, and values to float64's rounding: the bounds are in the operators' own tests."""
    given, options, _ = CALLS[name]
    gradients = []
    for module in (fd, fd.reference):
        y, *_, context = getattr(module, f"{name}_forward")(*given, **options)
        dy = np.random.default_rng(7).standard_normal(y.shape)
        gradients.append(arrays(getattr(module, f"{name}_backward")(dy, context)))
    for got, want in zip(*gradients, strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-12 * max(np.abs(want).max(), 1)


@each
@pytest.mark.parametrize("suffix", ["", "_forward", "_backward"], ids=["op", "forward", "backward"])
def test_the_reference_has_the_same_signature(name, suffix):
    ours, spec = (inspect.signature(getattr(m, name + suffix)).parameters for m in (fd, fd.reference))
    wanted = [(p.name, p.kind, p.default) for p in ours.values() if p.name not in DESTINATIONS]
    assert [(p.name, p.kind, p.default) for p in spec.values()] == wanted


@each
@modules
def test_op_has_the_signature_of_op_forward(module, name):
    op, forward = (inspect.signature(getattr(module, name + suffix)) for suffix in ("", "_forward"))
    assert op.parameters == forward.parameters
    assert module is fd.reference or op.return_annotation != forward.return_annotation
    assert getattr(module, name).__name__ == name
    assert getattr(module, name).__module__ == getattr(module, f"{name}_forward").__module__


@each
def test_op_documents_its_arguments(name):
    op, forward = (inspect.getdoc(getattr(fd, name + suffix)) for suffix in ("", "_forward"))
    for section in ("Args:", "Raises:"):
        lines = forward.split(f"{section}\n")[1].split("\n\n")[0].split("\n")
        assert f"{section}\n" + "\n".join(lines) in op
    assert "Returns:" not in op


@each
@pytest.mark.parametrize("wrong", [None, "saved", np.zeros(3), ()], ids=["None", "str", "array", "tuple"])
def test_backward_refuses_what_is_no_context(name, wrong):
    dy = np.zeros((2, 3), np.float32)
    text = f"^saved must be what {name}_forward returned; got {type(wrong).__name__}$"
    with pytest.raises(TypeError, match=text):
        getattr(fd, f"{name}_backward")(dy, wrong)


@each
def test_backward_refuses_the_context_of_another_operator(name):
    other = (
        fd.linear_forward(normal(3, 2), normal(2, 2))[1]
        if name != "linear"
        else fd.activate_forward(normal(3), "relu")[1]
    )
    with pytest.raises(TypeError, match=rf"^saved must be what {name}_forward returned; got \w+Context$"):
        getattr(fd, f"{name}_backward")(normal(2, 3), other)


def annotated(module):
    """(name, function) of every public function of a module, and of every method of its classes."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.FunctionType):
            yield name, value
        elif isinstance(value, type):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_") or method in ("__init__", "__call__", "__new__"):
                    yield f"{name}.{method}", function


FUNCTIONS = [
    (f"{module.__name__}.{name}", function)
    for module in (fd, fd.config, fd.training, fd.reference)
    for name, function in annotated(module)
]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_type_hints_can_be_read(name, function):
    """Documentation tools and users read them at run time, where names for the type checker alone do not exist."""
    assert set(typing.get_type_hints(function)) == set(function.__annotations__), name


@each
@pytest.mark.parametrize("suffix", ["", "_forward", "_backward"], ids=["op", "forward", "backward"])
def test_operators_are_annotated_in_full(name, suffix):
    function = getattr(fd, name + suffix)
    assert set(function.__annotations__) == {*inspect.signature(function).parameters, "return"}
