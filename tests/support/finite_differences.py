"""Central differences with an error bound of their own: no tolerance is chosen by hand.

D(h) = (f(x+h) - f(x-h)) / 2h = f' + h²/6 f''' + ..., so |D(2h) - D(h)| is three times the truncation of D(h). The
function itself is off by at most `operations` roundings of its value, which the division by h magnifies.
"""

import numpy as np

H = 1e-4
EPS = np.finfo(np.float64).eps


def derivative(function, array, index):
    """(D(h), bound of its truncation error) for one element, which is restored."""
    value = array[index]

    def difference(h):
        array[index] = value + h
        above = function()
        array[index] = value - h
        below = function()
        array[index] = value
        return (above - below) / (2 * h)

    near = difference(H)
    return near, abs(difference(2 * H) - near)


def assert_gradient(function, array, gradient, *, operations, name="gradient"):
    """`gradient` is that of function() by `array`, every element of it."""
    assert array.dtype == np.float64
    assert gradient.shape == array.shape
    rounding = operations * EPS * (1 + abs(function())) / H
    for index in np.ndindex(array.shape):
        want, truncation = derivative(function, array, index)
        off = abs(gradient[index] - want)
        assert off <= truncation + rounding, f"{name}{list(index)}: got {gradient[index]}, differences say {want}"
