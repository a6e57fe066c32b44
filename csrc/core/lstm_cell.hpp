// lstm_cell: one time step of one unit. CPU lanes and CUDA threads can share it.
//
//   i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_c)
//   c = f c_prev + i g,  h = o tanh(c)                          c_prev is c of the previous time step
//
// Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000. Dropout never touches c.
#pragma once

#include "core/activations.hpp"

namespace fusedrop {

template <class V>
struct LstmGates {  // pre-activations z, values of the gates, or gradients with respect to z
  V i, f, g, o;
};

template <class V>
FD_FN LstmGates<V> lstm_cell(const LstmGates<V>& z, V c_prev, V& c, V& h) {
  const LstmGates<V> s{Sigmoid::forward(z.i), Sigmoid::forward(z.f), Tanh::forward(z.g), Sigmoid::forward(z.o)};
  c = fma(s.f, c_prev, s.i * s.g);
  h = s.o * Tanh::forward(c);
  return s;
}

// Returns the gradient with respect to z. On entry dc is the gradient with respect to c that comes from the next time
// step; on return it is the gradient with respect to c_prev.
template <class V>
FD_FN LstmGates<V> lstm_cell_backward(const LstmGates<V>& s, V c_prev, V c, V dh, V& dc) {
  const V a = Tanh::forward(c);
  const V total = dc + Tanh::backward(dh * s.o, a);
  dc = total * s.f;
  return {Sigmoid::backward(total * s.g, s.i), Sigmoid::backward(total * c_prev, s.f), Tanh::backward(total * s.i, s.g),
          Sigmoid::backward(dh * a, s.o)};
}

}  // namespace fusedrop
