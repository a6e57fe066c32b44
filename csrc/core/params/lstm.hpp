// lstm: the plain structs of the LSTM that cross from the bindings to a backend. Dimensions: B sequences, T time steps,
// I inputs, H hidden units. The gates are in the order i, f, c, o. Row b*T + t of a [B*T, .] array is time step t of
// sequence b. The bindings have checked all values; the dtype is float32 or float64.
#pragma once

#include "core/dtypes.hpp"
#include "core/mask.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop {

constexpr int kGates = 4;

struct GateMasks {  // the masks of x, or of h_{t-1} for time step t; row b*T + t
  Mask mask;
  bool by_gate;  // each gate has its own mask: that of gate g begins at column g*cols
  FD_FN int count() const { return by_gate ? kGates : 1; }
  FD_FN Mask of(int gate, i64 cols) const {
    Mask result = mask;
    if (by_gate) result.col0 += static_cast<u64>(gate) * static_cast<u64>(cols);
    return result;
  }
};

struct LstmForwardArgs {
  Dtype dtype;
  i64 B, T, I, H;
  Matrix x;  // [B*T,I]
  Matrix w_ih;  // [4H,I]
  Matrix w_hh;  // [4H,H]
  const void* b;  // [4H] or null
  i64 b_stride;  // between elements of b
  const void* h0;  // [B,H] C order
  const void* c0;  // [B,H] C order
  void* y;  // [B,T,H] C order or null: all h_t
  void* h;  // [B,H] C order: the last h_t, or h0 where T = 0
  void* c;  // [B,H] C order: the last c_t, or c0 where T = 0
  void* gates;  // [4,B*T,H] C order, for backward: i, f, tanh(z_c), o; before the recurrence, x w_ihᵀ + b
  void* cells;  // [B,T,H] C order, for backward: c_t
  void* h_prev;  // [B,T,H] C order, for backward: h_{t-1} before its mask
  GateMasks input;  // of x
  GateMasks recurrent;  // of h_{t-1}
};

struct LstmBackwardArgs {
  Dtype dtype;
  i64 B, T, I, H;
  const void* dy;  // [B,T,H] C order or null: gradient with respect to all h_t
  const void* dh;  // [B,H] C order or null: gradient with respect to the last h
  const void* dc;  // [B,H] C order or null: gradient with respect to the last c
  Matrix x, w_ih, w_hh;  // as in forward
  const void* c0;
  const void* gates;  // gates, cells, h_prev: written by forward
  const void* cells;
  const void* h_prev;
  void* dz;  // [B*T,4H] C order: work space, the gradient with respect to the pre-activations
  void* dx;  // [B*T,I] C order, or null when not wanted
  void* dw_ih;  // [4H,I] C order, or null when not wanted
  void* dw_hh;  // [4H,H] C order, or null when not wanted
  void* db;  // [4H], or null when not wanted
  void* dh0;  // [B,H] C order
  void* dc0;  // [B,H] C order
  GateMasks input;  // of x
  GateMasks recurrent;  // of h_{t-1}
};

}  // namespace fusedrop
