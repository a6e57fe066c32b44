// epilogue: what happens to a finished product-sum, one formula for CPU lanes and CUDA threads, forward and backward.
//
//   forward    y = keep ? act(z) * scale : 0            backward   dz = keep ? act'(z) * (dy * scale) : 0
//
// and with the dropout before the activation, u = keep ? z * scale : 0:
//
//   forward    y = act(u)                               backward   dz = keep ? act'(u) * (dy * scale) : 0
//
// Dropped elements are selected, never multiplied: a dropped NaN or Inf is 0 in both directions.
// K is the truth value that select takes: bool for one thread, a lane mask for a SIMD pack.
#pragma once

#include "core/activations.hpp"

namespace fusedrop {

// What the layer kept for backward: nothing, its output y, or z (gelu and silu; every activation under a residual).
enum class Saved { nothing, output, preactivation };

FD_FN constexpr Saved saved_for(Keeps keeps, bool residual) {
  if (keeps == Keeps::nothing) return Saved::nothing;
  return keeps == Keeps::output && !residual ? Saved::output : Saved::preactivation;
}

template <class Act>
struct Epilogue {
  template <class V, class K>
  static FD_FN V forward(V z, K keep, V scale, bool before) {
    const V zero(scalar_of<V>(0));
    if (before) return Act::forward(select(keep, z * scale, zero));
    return select(keep, Act::forward(z) * scale, zero);
  }

  // s is y or z, as `saved` says; rescale is 1 / scale, which turns a kept y back into the activation's own output.
  template <class V, class K>
  static FD_FN V backward(V dy, V s, Saved saved, K keep, V scale, V rescale, bool before) {
    const V zero(scalar_of<V>(0));
    if (saved == Saved::preactivation) {
      if (before) s = select(keep, s * scale, zero);
      if (Act::keeps == Keeps::output) s = Act::forward(s);
    } else if (!before) {
      s = s * rescale;
    }
    return select(keep, Act::backward(dy * scale, s), zero);
  }
};

}  // namespace fusedrop
