// lstm_args: the plain structs of the LSTM. B sequences, T time steps, I inputs, H hidden units; gates in the order
// i, f, c, o. Rows of [B*T, .] arrays are b*T + t. Everything is checked before it gets here; float32 and float64 only.
#pragma once

#include "core/args.hpp"

namespace fusedrop {

constexpr int kGates = 4;

struct GateMasks {  // of x, or of h_{t-1} for step t, over rows b*T + t
  Mask mask;
  bool by_gate;  // each gate has a mask of its own: gate g's begins at column g*cols
  FD_FN int count() const { return by_gate ? kGates : 1; }
  FD_FN Mask of(int gate, i64 cols) const {
    Mask own = mask;
    if (by_gate) own.col0 += static_cast<u64>(gate) * static_cast<u64>(cols);
    return own;
  }
};

struct LstmForwardArgs {
  Dtype dtype;
  i64 B, T, I, H;
  Matrix x;  // [B*T,I]
  Matrix w_ih;  // [4H,I]
  Matrix w_hh;  // [4H,H]
  const void* b;  // [4H] or null
  i64 b_stride;
  const void* h0;  // [B,H] C order
  const void* c0;  // [B,H] C order
  void* y;  // [B,T,H] C order or null: every h_t
  void* h;  // [B,H] C order: the last h_t, or h0 where T = 0
  void* c;  // [B,H] C order, likewise
  void* gates;  // [4,B*T,H] C order, for backward: i, f, tanh's output, o; the inputs' share of z on the way
  void* cells;  // [B,T,H] C order, for backward: c_t
  void* h_before;  // [B,T,H] C order, for backward: h_{t-1}, no mask applied
  GateMasks input;  // of x
  GateMasks recurrent;  // of h_{t-1}
};

struct LstmBackwardArgs {
  Dtype dtype;
  i64 B, T, I, H;
  const void* dy;  // [B,T,H] C order or null: no gradient but the last state's
  const void* dh;  // [B,H] C order or null: gradient by the last h ...
  const void* dc;  // [B,H] C order or null: ... and by the last c
  Matrix x, w_ih, w_hh;  // as forward had them
  const void* c0;
  const void* gates;  // what forward left
  const void* cells;
  const void* h_before;
  void* dz;  // [B*T,4H] C order: room for the gradient by the pre-activations
  void* dx;  // [B*T,I] C order or null when not wanted
  void* dw_ih;  // [4H,I] C order or null
  void* dw_hh;  // [4H,H] C order or null
  void* db;  // [4H] or null
  void* dh0;  // [B,H] C order
  void* dc0;  // [B,H] C order
  GateMasks input;  // of x
  GateMasks recurrent;  // of h_{t-1}
};

}  // namespace fusedrop
