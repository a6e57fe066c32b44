// update: one optimizer step of one element, for any V (float, double or a SIMD vector).
//
//   penalty  g' = g + l2 w + l1 sign(w)
//   SGD      v = momentum v + g'                    w -= lr v, or with Nesterov's momentum lr (g' + momentum v)
//   Adam     m = beta1 m + (1 - beta1) g'           w -= rate m / (sqrt(v) root + eps)
//            v = beta2 v + (1 - beta2) g' g'        rate = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t)
//
// Numerics  products and sums are rounded separately, as in NumPy and PyTorch; the same bits on every instruction set
#pragma once

#include "core/scalar.hpp"

namespace fusedrop {

template <class T>
struct Penalty {
  T l1, l2;

  template <class V>
  FD_FN V add_to(V g, V w) const {
    if (l2 != T(0)) g = g + V(l2) * w;
    if (l1 == T(0)) return g;
    const V zero(T(0)), sign = copy_sign(V(T(1)), w);
    return g + V(l1) * select(less_equal(abs(w), zero), zero, sign);
  }
};

// Each rule has step(w, g, m, v), which returns the new w. It uses the first `states` of the state variables m and v.
template <class T>
struct Sgd {
  static constexpr int states = 0;
  T lr;

  template <class V>
  FD_FN V step(V w, V g, V&, V&) const {
    return w - V(lr) * g;
  }
};

template <class T>
struct Momentum {
  static constexpr int states = 1;
  T lr, momentum;
  bool nesterov;

  template <class V>
  FD_FN V step(V w, V g, V& velocity, V&) const {
    velocity = V(momentum) * velocity + g;
    return w - V(lr) * (nesterov ? g + V(momentum) * velocity : velocity);
  }
};

template <class T>
struct Adam {
  static constexpr int states = 2;
  T rate, beta1, one_minus_beta1, beta2, one_minus_beta2, root, eps;

  template <class V>
  FD_FN V step(V w, V g, V& m, V& v) const {
    m = V(beta1) * m + V(one_minus_beta1) * g;
    v = V(beta2) * v + V(one_minus_beta2) * (g * g);
    return w - V(rate) * (m / (sqrt(v) * V(root) + V(eps)));
  }
};

}  // namespace fusedrop
