// epilogue: applied to each complete sum of a product. CPU lanes and CUDA threads share these formulas.
//
//   forward    y = keep ? act(z) * scale : 0            backward   dz = keep ? act'(z) * (dy * scale) : 0
//
// With dropout_first, dropout comes before the activation: u = keep ? z * scale : 0, and
//
//   forward    y = act(u)                               backward   dz = keep ? act'(u) * (dy * scale) : 0
//
// Dropped elements are selected, never multiplied by 0: a dropped NaN or Inf becomes 0 in both directions.
// K is the condition type of select: bool for one thread, a lane mask for a SIMD vector.
#pragma once

#include "core/activations.hpp"

namespace fusedrop {

// What a layer saves: what its activation needs. With a residual it saves z instead of y, because y is then a sum.
FD_FN constexpr SavedKind saved_kind_for(SavedKind saves, bool residual) {
  if (saves == SavedKind::nothing) return SavedKind::nothing;
  return saves == SavedKind::output && !residual ? SavedKind::output : SavedKind::preactivation;
}

template <class V>
struct DropoutScale {
  V scale, rescale;  // rescale is 1 / scale: it turns a y that was not dropped back into act(z)
};

template <class Act>
struct Epilogue {
  template <class V, class K>
  static FD_FN V forward(V z, K keep, V scale, bool dropout_first) {
    const V zero(scalar_of<V>(0));
    if (dropout_first) return Act::forward(select(keep, z * scale, zero));
    return select(keep, Act::forward(z) * scale, zero);
  }

  // s is y or z, as saved_kind says.
  template <class V, class K>
  static FD_FN V backward(V dy, V s, SavedKind saved_kind, K keep, DropoutScale<V> by, bool dropout_first) {
    const V zero(scalar_of<V>(0));
    if (saved_kind == SavedKind::preactivation) {
      if (dropout_first) s = select(keep, s * by.scale, zero);
      if (Act::saves == SavedKind::output) s = Act::forward(s);
    } else if (!dropout_first) {
      s = s * by.rescale;
    }
    return select(keep, Act::backward(dy * by.scale, s), zero);
  }
};

}  // namespace fusedrop
