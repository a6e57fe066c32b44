"""Prints csrc/core/gaussian_tail.hpp: the polynomial behind the GELU's normal distribution function.

Q(a) = 1 - Phi(a) = exp(-a^2/2) * t * S(t) with t = 1 / (1 + a/4), for a >= 0. S is smooth on (0, 1], so a polynomial
through its Chebyshev nodes converges fast; the factor t describes the tail's 1/a. The script needs mpmath. Run:

    python csrc/core/fit_gaussian_tail.py > csrc/core/gaussian_tail.hpp
"""

import mpmath as mp

mp.mp.dps = 50
SLOPE = mp.mpf(1) / 4
DEGREES = {"float": 11, "double": 24}


def tail_factor(t):
    """S(t), from erfc in 50 digits."""
    a = (1 / t - 1) / SLOPE
    return mp.exp(a * a / 2) * mp.erfc(a / mp.sqrt(2)) / (2 * t)


def chebyshev_fit(degree):
    """Coefficients, lowest power first, of the polynomial through the Chebyshev nodes of (0, 1)."""
    n = degree + 1
    nodes = [(mp.cos(mp.pi * (2 * k + 1) / (2 * n)) + 1) / 2 for k in range(n)]
    vandermonde = mp.matrix(n, n)
    for i, node in enumerate(nodes):
        for j in range(n):
            vandermonde[i, j] = node**j
    return list(mp.lu_solve(vandermonde, mp.matrix([tail_factor(node) for node in nodes])))


def worst_error(coefficients):
    """Largest relative error of the tail on a grid that reaches a = 40."""
    grid = [mp.mpf(i) / 1100 for i in range(100, 1101)]
    return max(abs(mp.polyval(coefficients[::-1], t) / tail_factor(t) - 1) for t in grid)


def main():
    print("// gaussian_tail: coefficients of S(t), lowest power first.", end=" ")
    print("csrc/core/fit_gaussian_tail.py writes this file.")
    print('#pragma once\n\n#include "core/platform.hpp"\n\nnamespace fusedrop {\n')
    print("template <class T>\nstruct GaussianTail;\n")
    for name, degree in DEGREES.items():
        coefficients = chebyshev_fit(degree)
        print(f"// Relative error of the tail: {mp.nstr(worst_error(coefficients), 2)} before rounding")
        print(f"template <>\nstruct GaussianTail<{name}> {{")
        print(f"  static constexpr int degree = {degree};")
        print("  // A function: device code can call it, and no object file exports the table.")
        print("  static FD_FN constexpr double coefficient(int power) {")
        print(f"    constexpr double c[{degree + 1}] = {{")
        for value in coefficients:
            print(f"        {mp.nstr(value, 17)},")
        print("    };\n    return c[power];\n  }\n};\n")
    print("}  // namespace fusedrop")


if __name__ == "__main__":
    main()
