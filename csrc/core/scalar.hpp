// scalar: the operations in which activations are written, for one float or double. A SIMD vector has operations of the
// same names for its lanes (cpu/simd/), so one formula works for a CUDA thread, the scalar CPU and every vector width.
#pragma once

#include <cmath>
#include <cstring>

#include "core/platform.hpp"

namespace fusedrop {

template <class V>
struct ScalarOf {
  using type = typename V::Scalar;
};
template <>
struct ScalarOf<float> {
  using type = float;
};
template <>
struct ScalarOf<double> {
  using type = double;
};
template <class V>
using scalar_of = typename ScalarOf<V>::type;

FD_FN float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
FD_FN double fma(double a, double b, double c) { return ::fma(a, b, c); }

// min and max return their second argument when either argument is NaN, as x86 does. To propagate a NaN of x, pass x
// second.
FD_FN float min(float a, float b) { return a < b ? a : b; }
FD_FN double min(double a, double b) { return a < b ? a : b; }
FD_FN float max(float a, float b) { return a > b ? a : b; }
FD_FN double max(double a, double b) { return a > b ? a : b; }

FD_FN float abs(float a) { return ::fabsf(a); }
FD_FN double abs(double a) { return ::fabs(a); }
FD_FN float sqrt(float a) { return ::sqrtf(a); }
FD_FN double sqrt(double a) { return ::sqrt(a); }
FD_FN float copy_sign(float magnitude, float sign) { return ::copysignf(magnitude, sign); }
FD_FN double copy_sign(double magnitude, double sign) { return ::copysign(magnitude, sign); }
FD_FN float round_even(float a) { return ::rintf(a); }
FD_FN double round_even(double a) { return ::rint(a); }

FD_FN bool less_equal(float a, float b) { return a <= b; }
FD_FN bool less_equal(double a, double b) { return a <= b; }
FD_FN float select(bool condition, float yes, float no) { return condition ? yes : no; }
FD_FN double select(bool condition, double yes, double no) { return condition ? yes : no; }

// The float with these bits, and back.
FD_FN float float_of(u32 bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
FD_FN u32 bits_of(float value) {
  u32 bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 2^n for an integer n in the exponent range of normal numbers, made from the bits of the format.
FD_FN float pow2(float n) { return float_of(static_cast<u32>(static_cast<i32>(n) + 127) << 23); }
FD_FN double pow2(double n) {
  const u64 bits = static_cast<u64>(static_cast<i64>(n) + 1023) << 52;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace fusedrop
