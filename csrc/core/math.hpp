// math: exp, sigmoid, tanh and the normal distribution for any V (float, double or a SIMD vector).
//
// Numerics  built from fma, so every instruction set gives the same bits; the error of exp, sigmoid and tanh is at most
//           about 3 units in the last place; the absolute error of the normal distribution is below one unit in the
//           last place of 1.0
// Limits    NaN gives NaN; overflow gives Inf; underflow goes through the subnormal numbers to 0
#pragma once

#include "core/gaussian_tail.hpp"
#include "core/scalar.hpp"

namespace fusedrop {

// e^r - 1 = r + r^2/2 + ... for |r| <= ln(2)/2: the Taylor series, cut where its remainder is below half a unit in the
// last place (degree 7: 5e-9; degree 13: 4e-18). So the coefficients need no fit.
template <class T>
struct ExpFormat;
template <>
struct ExpFormat<float> {
  static constexpr int degree = 7;
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;  // hi has 9 bits: n * hi is exact
  static constexpr float lowest = -104.0f, highest = 89.0f;  // below: 0; above: Inf
};
template <>
struct ExpFormat<double> {
  static constexpr int degree = 13;
  static constexpr double ln2_hi = 6.93145751953125e-1, ln2_lo = 1.42860682030941723212e-6;  // hi has 21 bits
  static constexpr double lowest = -746.0, highest = 710.0;
};

// Writes x as n ln2 + r. Returns e^r - 1, and n by reference.
template <class V>
FD_FN V exp_reduced(V x, V& n) {
  using T = scalar_of<V>;
  using F = ExpFormat<T>;
  n = round_even(x * V(T(1.4426950408889634)));
  V r = fma(n, V(-F::ln2_hi), x);
  r = fma(n, V(-F::ln2_lo), r);
  double factorial = 1;
  for (int i = 2; i <= F::degree; ++i) factorial *= i;
  V sum = V(T(1 / factorial));
  for (int i = F::degree; i > 1; --i) {
    factorial /= i;
    sum = fma(sum, r, V(T(1 / factorial)));
  }
  return sum * r;
}

template <class V>
FD_FN V exp(V x) {
  using T = scalar_of<V>;
  using F = ExpFormat<T>;
  x = min(V(F::highest), max(V(F::lowest), x));
  V n;
  const V e = exp_reduced(x, n);
  // 2^n in two factors: for n = 128 and for subnormal results, 2^n itself is out of range.
  const V half = round_even(n * V(T(0.5)));
  const V first = pow2(half);
  return fma(e, first, first) * pow2(n - half);
}

template <class V>
FD_FN V sigmoid(V x) {
  using T = scalar_of<V>;
  const V e = exp(V(T(0)) - abs(x));  // in (0, 1]: never overflows
  return select(less_equal(V(T(0)), x), V(T(1)), e) / (V(T(1)) + e);
}

// tanh |x| = (e^2|x| - 1) / (e^2|x| + 1), with e^2|x| - 1 = 2^n (e^r - 1) + (2^n - 1): no cancellation near 0.
template <class V>
FD_FN V tanh(V x) {
  using T = scalar_of<V>;
  const V doubled = min(V(T(60)), abs(x) * V(T(2)));  // tanh 30 rounds to 1 in both formats
  V n;
  const V e = exp_reduced(doubled, n);
  const V power = pow2(n);
  const V numerator = fma(e, power, power - V(T(1)));
  return copy_sign(numerator / (numerator + V(T(2))), x);
}

// Phi(z), the normal distribution function. gauss receives exp(-z^2/2), which the density needs too.
template <class V>
FD_FN V normal_cdf(V z, V& gauss) {
  using T = scalar_of<V>;
  using S = GaussianTail<T>;
  const V a = abs(z);
  const V t = V(T(1)) / fma(a, V(T(0.25)), V(T(1)));
  V sum = V(T(S::coefficient(S::degree)));
  for (int i = S::degree - 1; i >= 0; --i) sum = fma(sum, t, V(T(S::coefficient(i))));
  gauss = exp(a * a * V(T(-0.5)));
  const V tail = gauss * t * sum;
  return select(less_equal(V(T(0)), z), V(T(1)) - tail, tail);
}

}  // namespace fusedrop
