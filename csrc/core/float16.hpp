// float16: IEEE 754 binary16, as arrays store it. Nothing is computed in it: it is widened, and rounded again.
#pragma once

#include "core/bfloat16.hpp"

namespace fusedrop {

struct float16 {
  u16 bits;
};

template <>
struct SumOf<float16> {
  using type = float;
};

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

// The exponent's field moves up by 13 bits and means 2^-112 of what it then says: one exact product sets it right,
// subnormal numbers too.
FD_FN float widen(float16 a) {
  const u32 sign = static_cast<u32>(a.bits & 0x8000) << 16;
  const u32 magnitude = static_cast<u32>(a.bits & 0x7fff) << 13;
  if ((a.bits & 0x7c00) == 0x7c00) return float_of(sign | 0x7f800000 | magnitude);
  return float_of(sign | bits_of(float_of(magnitude) * 0x1p112f));
}

// To nearest, ties to even; what rounds past 65504 is Inf, a NaN stays one.
FD_FN void narrow(float a, float16& to) {
  const u32 bits = bits_of(a), magnitude = bits & 0x7fffffff;
  const u16 sign = static_cast<u16>((bits >> 16) & 0x8000);
  if (magnitude > 0x7f800000) {
    to.bits = static_cast<u16>(sign | 0x7e00);
  } else if (magnitude >= 0x477ff000) {  // 65520, half a unit above the largest number
    to.bits = static_cast<u16>(sign | 0x7c00);
  } else if (magnitude < 0x38800000) {  // below 2^-14: adding 1/2 leaves units of 2^-24 as the last bits of the sum
    to.bits = static_cast<u16>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000));
  } else {
    const u32 rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    to.bits = static_cast<u16>(sign | ((rounded - 0x38000000) >> 13));
  }
}

}  // namespace fusedrop
