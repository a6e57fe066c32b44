// format: how arrays of S (float, double, bfloat16) are packed and multiplied.
//
//   Sum    the type of packed elements and of sums
//   pair   how many neighbours along K one packed element holds: 2 where the CPU multiplies pairs of bfloat16, else 1
//
// A step is one packed element's share of K. Without AVX512_BF16, bfloat16 is widened while it is packed.
#pragma once

#include "cpu/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Format {
  using Sum = sum_of<S>;
  static constexpr int pair = 1;
  static FD_FN Vec<Sum> multiply_add(Vec<Sum> a, Vec<Sum> b, Vec<Sum> c) { return FD_ISA::multiply_add(a, b, c); }
};

#if FD_BF16_DOT
template <>
struct Format<bfloat16> {
  using Sum = float;
  static constexpr int pair = 2;
  static FD_FN VecF multiply_add(VecF a, VecF b, VecF c) { return dot_pairs(a, b, c); }
};
#endif

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
