// activations: one struct each, for every target.
//
//   forward(z)       act(z)
//   backward(g, s)   g * act'(z), where s is what the layer keeps for backward: its output
//                    act(z), the pre-activation z, or nothing
//
// To add one: its struct here, its line in FUSEDROP_ACTIVATIONS, its formula in python/fusedrop/reference/linear.py.
// Kept NaN and Inf propagate as IEEE arithmetic says; relu passes NaN, which a plain max(z, 0) may lose.
#pragma once

#include "core/math.hpp"

namespace fusedrop {

enum class Keeps { nothing, output, preactivation };

struct Identity {
  static constexpr Keeps keeps = Keeps::nothing;
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
  static constexpr Keeps keeps = Keeps::output;
  template <class V>
  static FD_FN V forward(V z) {
    return max(V(scalar_of<V>(0)), z);
  }
  template <class V>
  static FD_FN V backward(V g, V a) {  // selected, not multiplied: an Inf gradient of a dead unit is 0
    const V zero(scalar_of<V>(0));
    return select(less_equal(a, zero), zero, g);
  }
};

struct Gelu {  // z Phi(z); Hendrycks and Gimpel, 1606.08415
  static constexpr Keeps keeps = Keeps::preactivation;
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

// z (1 + tanh u) / 2 with u = sqrt(2/pi) (z + 0.044715 z^3); (1 + tanh u) / 2 is sigmoid(2u), which keeps the tail's
// digits.
struct GeluTanh {
  static constexpr Keeps keeps = Keeps::preactivation;
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
  static constexpr Keeps keeps = Keeps::preactivation;
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
  static constexpr Keeps keeps = Keeps::output;
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
  static constexpr Keeps keeps = Keeps::output;
  template <class V>
  static FD_FN V forward(V z) {
    return sigmoid(z);
  }
  template <class V>
  static FD_FN V backward(V g, V a) {  // a (1 - a)
    return g * (a * (V(scalar_of<V>(1)) - a));
  }
};

// The table: enumerator, struct, the name users write.
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

// The one switch from a run-time activation to a compile-time one: calls f(Act{}).
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
