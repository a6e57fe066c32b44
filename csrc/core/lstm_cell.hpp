// lstm_cell: one time step of one unit, for CPU lanes and CUDA threads alike.
//
//   i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_c)
//   c = f c' + i g,  h = o tanh(c)                              c' is the step before's c
//
// Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000. Dropout never touches c.
#pragma once

#include "core/activations.hpp"

namespace fusedrop {

template <class V>
struct LstmGates {  // their values, or gradients of what they are made of
  V i, f, g, o;
};

template <class V>
FD_FN LstmGates<V> lstm_cell(const LstmGates<V>& z, V c_before, V& c, V& h) {
  const LstmGates<V> s{Sigmoid::forward(z.i), Sigmoid::forward(z.f), Tanh::forward(z.g), Sigmoid::forward(z.o)};
  c = fma(s.f, c_before, s.i * s.g);
  h = s.o * Tanh::forward(c);
  return s;
}

// The gradient by z. dc is the gradient by c from the step after; it becomes that by c_before.
template <class V>
FD_FN LstmGates<V> lstm_cell_backward(const LstmGates<V>& s, V c_before, V c, V dh, V& dc) {
  const V a = Tanh::forward(c);
  const V total = dc + Tanh::backward(dh * s.o, a);
  dc = total * s.f;
  return {Sigmoid::backward(total * s.g, s.i), Sigmoid::backward(total * c_before, s.f),
          Tanh::backward(total * s.i, s.g), Sigmoid::backward(dh * a, s.o)};
}

}  // namespace fusedrop
