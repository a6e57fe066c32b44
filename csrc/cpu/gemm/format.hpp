// format: how arrays of S (float, double, bfloat16) are packed and multiplied.
//
//   pair   number of neighbors along K in one packed element: 2 where the CPU multiplies pairs of bfloat16, else 1
//   Tile   the type whose register tile multiplies: bfloat16 that was widened uses the tile of float
//
// Packed elements and sums have the accumulator type acc_t<S>. A k-step is one packed element along K, hence `pair`
// elements of K. Without AVX512_BF16, bfloat16 is widened while it is packed, and pair is 1.
#pragma once

#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Format {
  using V = Vec<acc_t<S>>;
  using Tile = acc_t<S>;
  static constexpr int pair = 1;
  static FD_FN V multiply_add(V a, V b, V c) { return FD_ISA::multiply_add(a, b, c); }
};

#if FD_BF16_DOT
template <>
struct Format<bfloat16> {
  using Tile = bfloat16;
  static constexpr int pair = 2;
  static FD_FN VecF multiply_add(VecF a, VecF b, VecF c) { return dot_pairs(a, b, c); }
};
#endif

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
