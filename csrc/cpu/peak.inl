// peak: what the machine can do at most, independent fused multiply-adds in registers; the yardstick of the benchmarks.
#pragma once

#include "core/args.hpp"
#include "cpu/micro.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Floating-point operations done by `rounds` rounds. As many chains as the micro-kernel has accumulators: more than
// latency times throughput of any core.
template <class T>
i64 fma_rounds(i64 rounds) {
  using V = Vec<T>;
  constexpr int chains = Tiling<T>::MR * Tiling<T>::NV;
  V acc[chains];
  for (int c = 0; c < chains; ++c) acc[c] = V(T(c));
  const V factor(T(0.5)), term(T(1));
  for (i64 r = 0; r < rounds; ++r)
#pragma GCC unroll 32
    for (int c = 0; c < chains; ++c) acc[c] = multiply_add(acc[c], factor, term);
  V sum(T(0));
  for (int c = 0; c < chains; ++c) sum = sum + acc[c];
  T lanes[V::W];
  sum.store(lanes);
  volatile T sink = lanes[0];  // the result is used: the loop stays
  static_cast<void>(sink);
  return 2 * rounds * chains * V::W;
}

i64 fma_burst(Dtype dtype, i64 rounds) {
  return dtype == Dtype::float32 ? fma_rounds<float>(rounds) : fma_rounds<double>(rounds);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
