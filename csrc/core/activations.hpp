// activations: one struct per activation, shared by all targets.
//
//   forward(z)       act(z)
//   backward(g, s)   g * act'(z), where s is what the layer saves for backward: its output act(z), the
//                    pre-activation z, or nothing
//
// To add an activation, write its struct here, add its line to FUSEDROP_ACTIVATIONS and write its formula in
// python/fusedrop/reference/activation.py.
// NaN and Inf propagate as in IEEE arithmetic. relu passes NaN; a plain max(z, 0) can lose it.
#pragma once

#include "core/math.hpp"

namespace fusedrop {

// What a layer saves for backward: nothing, its output y, or its pre-activation z.
enum class SavedKind { nothing, output, preactivation };

struct Identity {
  static constexpr SavedKind saves = SavedKind::nothing;
  template <class V>
  static FD_FN V forward(V z) {
    return z;
  }
  template <class V>
  static FD_FN V backward(V g, V) {
    return g;
  }
};

struct Relu {  // max(z, 0)
  static constexpr SavedKind saves = SavedKind::output;
  template <class V>
  static FD_FN V forward(V z) {
    return max(V(scalar_of<V>(0)), z);
  }
  template <class V>
  static FD_FN V backward(V g, V a) {  // select, not multiply: the gradient of a dead unit is 0 even where g is Inf
    const V zero(scalar_of<V>(0));
    return select(less_equal(a, zero), zero, g);
  }
};

struct Gelu {  // z Phi(z); Hendrycks and Gimpel, 1606.08415
  static constexpr SavedKind saves = SavedKind::preactivation;
  template <class V>
  static FD_FN V forward(V z) {
    V gauss;
    return z * normal_cdf(z, gauss);
  }
  template <class V>
  static FD_FN V backward(V g, V z) {  // Phi(z) + z phi(z)
    V gauss;
    const V cdf = normal_cdf(z, gauss);
    return g * fma(z * gauss, V(scalar_of<V>(0.3989422804014327)), cdf);
  }
};

// z (1 + tanh u) / 2 with u = sqrt(2/pi) (z + 0.044715 z^3). (1 + tanh u) / 2 is computed as sigmoid(2u), which stays
// accurate in the tail.
struct GeluTanh {
  static constexpr SavedKind saves = SavedKind::preactivation;
  static constexpr double slope = 1.5957691216057308;  // 2 sqrt(2/pi)
  static constexpr double cubic = 0.044715;
  template <class V>
  static FD_FN V gate(V z) {
    using T = scalar_of<V>;
    return sigmoid(z * fma(z * z, V(T(slope * cubic)), V(T(slope))));
  }
  template <class V>
  static FD_FN V forward(V z) {
    return z * gate(z);
  }
  template <class V>
  static FD_FN V backward(V g, V z) {  // s + z s (1 - s) (2u)'
    using T = scalar_of<V>;
    const V s = gate(z);
    const V slope_at_z = fma(z * z, V(T(3 * slope * cubic)), V(T(slope)));
    return g * fma(z * slope_at_z, s * (V(T(1)) - s), s);
  }
};

struct Silu {  // z sigmoid(z)
  static constexpr SavedKind saves = SavedKind::preactivation;
  template <class V>
  static FD_FN V forward(V z) {
    return z * sigmoid(z);
  }
  template <class V>
  static FD_FN V backward(V g, V z) {
    const V s = sigmoid(z);
    return g * fma(z, s * (V(scalar_of<V>(1)) - s), s);
  }
};

struct Tanh {
  static constexpr SavedKind saves = SavedKind::output;
  template <class V>
  static FD_FN V forward(V z) {
    return tanh(z);
  }
  template <class V>
  static FD_FN V backward(V g, V a) {  // 1 - a^2
    return g * ((V(scalar_of<V>(1)) - a) * (V(scalar_of<V>(1)) + a));
  }
};

struct Sigmoid {
  static constexpr SavedKind saves = SavedKind::output;
  template <class V>
  static FD_FN V forward(V z) {
    return sigmoid(z);
  }
  template <class V>
  static FD_FN V backward(V g, V a) {  // a (1 - a)
    return g * (a * (V(scalar_of<V>(1)) - a));
  }
};

// The table of activations: enumerator, struct, the name that users write.
#define FUSEDROP_ACTIVATIONS(X)       \
  X(identity, Identity, "identity")   \
  X(relu, Relu, "relu")               \
  X(gelu, Gelu, "gelu")               \
  X(gelu_tanh, GeluTanh, "gelu_tanh") \
  X(silu, Silu, "silu")               \
  X(tanh, Tanh, "tanh")               \
  X(sigmoid, Sigmoid, "sigmoid")

enum class Activation {
#define FUSEDROP_ENUMERATOR(id, type, name) id,
  FUSEDROP_ACTIVATIONS(FUSEDROP_ENUMERATOR)
#undef FUSEDROP_ENUMERATOR
};

// The only switch from a run-time activation to a compile-time one: calls f(Act{}).
template <class F>
FD_FN auto with_activation(Activation activation, F f) {
  switch (activation) {
#define FUSEDROP_CASE(id, type, name) \
  case Activation::id:                \
    return f(type{});
    FUSEDROP_ACTIVATIONS(FUSEDROP_CASE)
#undef FUSEDROP_CASE
  }
  return f(Identity{});
}

}  // namespace fusedrop
