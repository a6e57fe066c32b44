// peak: measures the peak speed of the machine with independent fused multiply-adds in registers. Benchmarks compare
// kernels with it.
#pragma once

#include "cpu/gemm/tile.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Runs `rounds` rounds and returns the number of floating-point operations. There are as many chains as the register
// tile has accumulators: more than latency times throughput of any core.
template <class S>
i64 fma_rounds(i64 rounds) {
  using T = acc_t<S>;
  using V = Vec<T>;
  constexpr int chains = Tiling<T>::MR * Tiling<T>::NV;
  V acc[chains];
  for (int c = 0; c < chains; ++c) acc[c] = V(T(c));
  const V a(T(0.5)), b(T(1));
  for (i64 r = 0; r < rounds; ++r)
#pragma GCC unroll 32
    for (int c = 0; c < chains; ++c) acc[c] = Format<S>::multiply_add(a, b, acc[c]);
  V sum(T(0));
  for (int c = 0; c < chains; ++c) sum = sum + acc[c];
  T lanes[V::W];
  sum.store(lanes);
  volatile T sink = lanes[0];  // uses the result, so that the compiler does not remove the loop
  static_cast<void>(sink);
  return 2 * rounds * chains * V::W * Format<S>::pair;
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
