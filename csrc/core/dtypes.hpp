// dtypes: the element types of arrays. bfloat16 and float16 are storage types: kernels widen their values to float32,
// which is exact, and round results to nearest, ties to even.
#pragma once

#include "core/scalar.hpp"

namespace fusedrop {

struct bfloat16 {
  u16 bits;
};
struct float16 {
  u16 bits;
};

// Accumulator type: the type in which elements of an array of S are computed and summed.
template <class S>
struct AccumulatorOf {
  using type = S;
};
template <>
struct AccumulatorOf<bfloat16> {
  using type = float;
};
template <>
struct AccumulatorOf<float16> {
  using type = float;
};
template <class S>
using acc_t = typename AccumulatorOf<S>::type;

FD_FN float widen(float a) { return a; }
FD_FN double widen(double a) { return a; }
FD_FN float widen(bfloat16 a) { return float_of(static_cast<u32>(a.bits) << 16); }

// The exponent field moves up by 13 bits and is then too small by 112. One exact multiplication by 2^112 corrects it,
// for subnormal numbers too.
FD_FN float widen(float16 a) {
  const u32 sign = static_cast<u32>(a.bits & 0x8000) << 16;
  const u32 magnitude = static_cast<u32>(a.bits & 0x7fff) << 13;
  if ((a.bits & 0x7c00) == 0x7c00) return float_of(sign | 0x7f800000 | magnitude);
  return float_of(sign | bits_of(float_of(magnitude) * 0x1p112f));
}

FD_FN void narrow(float a, float& to) { to = a; }
FD_FN void narrow(double a, double& to) { to = a; }

// To nearest, ties to even. A NaN stays a NaN: a payload bit is set, because the others may be cut off.
FD_FN void narrow(float a, bfloat16& to) {
  const u32 bits = bits_of(a);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  to.bits = static_cast<u16>(nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// To nearest, ties to even. Values that round past 65504 become Inf; a NaN stays a NaN.
FD_FN void narrow(float a, float16& to) {
  const u32 bits = bits_of(a), magnitude = bits & 0x7fffffff;
  const u16 sign = static_cast<u16>((bits >> 16) & 0x8000);
  if (magnitude > 0x7f800000) {
    to.bits = static_cast<u16>(sign | 0x7e00);
  } else if (magnitude >= 0x477ff000) {  // 65520: half a unit in the last place above the largest number
    to.bits = static_cast<u16>(sign | 0x7c00);
  } else if (magnitude < 0x38800000) {  // below 2^-14: after adding 1/2, the last bit of the sum is worth 2^-24
    to.bits = static_cast<u16>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000));
  } else {
    const u32 rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    to.bits = static_cast<u16>(sign | ((rounded - 0x38000000) >> 13));
  }
}

enum class Dtype { float32, float64, bfloat16, float16 };  // float64: CPU only; float16: CUDA only

// Calls f with a value of the C++ type that corresponds to `dtype`, one of the three CPU types.
template <class F>
FD_FN auto with_dtype(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::float64:
      return f(double{});
    case Dtype::bfloat16:
      return f(bfloat16{});
    default:
      return f(float{});
  }
}

}  // namespace fusedrop
