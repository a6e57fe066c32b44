// bfloat16: the upper half of a float32, as arrays store it. Nothing is computed in it: it is widened, and rounded again.
#pragma once

#include <cstring>

#include "core/platform.hpp"

namespace fusedrop {

struct bfloat16 {
  u16 bits;
};

// The type in which elements of an array of S are computed and summed.
template <class S>
struct SumOf {
  using type = S;
};
template <>
struct SumOf<bfloat16> {
  using type = float;
};
template <class S>
using sum_of = typename SumOf<S>::type;

FD_FN float widen(float a) { return a; }
FD_FN double widen(double a) { return a; }
FD_FN float widen(bfloat16 a) {
  const u32 bits = static_cast<u32>(a.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To nearest, ties to even; a NaN stays one (its payload may lie in the half that is cut off).
FD_FN void narrow(float a, float& to) { to = a; }
FD_FN void narrow(double a, double& to) { to = a; }
FD_FN void narrow(float a, bfloat16& to) {
  u32 bits;
  std::memcpy(&bits, &a, sizeof bits);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  to.bits = static_cast<u16>(nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace fusedrop
