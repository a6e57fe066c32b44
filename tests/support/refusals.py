"""The failure of a wrong call: one exception that names the argument and both sides; every array is unchanged."""

import re

import numpy as np
import pytest


def contents(values):
    """The bytes of every array among `values`, and of the memory it is a view of."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    bases = [a.base for a in arrays if isinstance(a.base, np.ndarray)]
    return [a.tobytes() for a in (*arrays, *bases)]


def assert_refused(call, arguments, error, name, wanted, got):
    """call(**arguments) raises exactly `error`, "name ... wanted ...; ... got ...", and writes nowhere."""
    before = contents(arguments.values())
    with pytest.raises(Exception) as caught:  # noqa: PT011 the type and the text are both checked below
        call(**arguments)
    message = str(caught.value)
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {message}"
    assert "incompatible" not in message, f"pybind11's own message: {message}"
    pattern = rf"{re.escape(name)}(?!\w).*{re.escape(wanted)}.*; got .*{re.escape(got)}"
    assert re.match(pattern, message, re.DOTALL), f"{message!r} does not match {pattern!r}"
    assert contents(arguments.values()) == before


def not_a_probability(name):
    """Rows (name, value, error, wanted, got) for an argument that must be a number in [0, 1]."""
    return [
        (name, float("nan"), ValueError, "in [0, 1]", "nan"),
        (name, -0.1, ValueError, "in [0, 1]", "-0.1"),
        (name, 1.1, ValueError, "in [0, 1]", "1.1"),
        (name, np.float32(2), ValueError, "in [0, 1]", "2.0"),
        (name, float("inf"), ValueError, "in [0, 1]", "inf"),
        (name, 10**400, ValueError, "in [0, 1]", "1000"),
        (name, "0.5", TypeError, "a number in [0, 1]", "'0.5'"),
        (name, None, TypeError, "a number in [0, 1]", "None"),
        (name, True, TypeError, "a number in [0, 1]", "True"),
        (name, np.True_, TypeError, "a number in [0, 1]", "True"),
        (name, [0.5], TypeError, "a number in [0, 1]", "[0.5]"),
        (name, 0.5j, TypeError, "a number in [0, 1]", "0.5j"),
    ]


def not_an_integer(name, low, high):
    """Rows for an argument that must be an integer in [low, high]."""
    wanted = f"in [{low}, {high}]"
    return [
        (name, low - 1, ValueError, wanted, str(low - 1)),
        (name, high + 1, ValueError, wanted, str(high + 1)),
        (name, 2**200, ValueError, wanted, str(2**200)),
        (name, 1.0, TypeError, f"an integer {wanted}", "1.0"),
        (name, "1", TypeError, f"an integer {wanted}", "'1'"),
        (name, True, TypeError, f"an integer {wanted}", "True"),
        (name, np.array([1, 2]), TypeError, f"an integer {wanted}", "array([1, 2])"),
    ]


def name_rows(rows):
    """pytest ids: the argument and the value of each row. No addresses: an id must be the same in every process."""
    return [" ".join(re.sub(" at 0x[0-9a-f]+|\n", " ", str(part))[:30] for part in row[:-3]) for row in rows]
