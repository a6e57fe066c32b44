// activation: y = act(x), or y = dy * act'(x), for activation layers that are not fused
//   x, dy, y: n contiguous elements
// Numerics  the fused kernels use the same structs, so the bits are the same
#pragma once

#include "core/params/elementwise.hpp"
#include "cpu/runtime/threads.hpp"
#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class Act, class V>
FD_FN V apply(V x, V dy, bool backward) {
  if (!backward) return Act::forward(x);
  return Act::backward(dy, Act::saves == SavedKind::output ? Act::forward(x) : x);
}

template <class Act, class S>
void apply_range(const ActivationArgs& args, i64 begin, i64 end) {
  using V = Vec<acc_t<S>>;
  const S* x = static_cast<const S*>(args.x);
  const S* dy = static_cast<const S*>(args.dy);
  S* y = static_cast<S*>(args.y);
  const bool backward = dy != nullptr;
  i64 i = begin;
  for (; i + V::W <= end; i += V::W)
    apply<Act>(V::load(x + i), V::load(backward ? dy + i : x + i), backward).store(y + i);
  if (i == end) return;
  S in[V::W] = {}, g[V::W] = {}, out[V::W];  // the tail is padded to a vector: the same bits as other elements
  for (i64 c = 0; c < end - i; ++c) in[c] = x[i + c], g[c] = backward ? dy[i + c] : S{};
  apply<Act>(V::load(in), V::load(g), backward).store(out);
  for (i64 c = 0; c < end - i; ++c) y[i + c] = out[c];
}

}  // namespace

void activation(const ActivationArgs& args) {
  const int threads = threads_for(args.n * 16);
  parallel_for(threads, [&](int thread) {
    const i64 begin = args.n * thread / threads, end = args.n * (thread + 1) / threads;
    with_activation(args.activation, [&](auto act) {
      with_dtype(args.dtype, [&](auto s) { apply_range<decltype(act), decltype(s)>(args, begin, end); });
    });
  });
}

}  // namespace fusedrop::cpu::FD_ISA
