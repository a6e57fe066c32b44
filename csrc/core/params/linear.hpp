// linear: the plain structs of the linear layer that cross from the bindings to a backend. Strides count elements.
// Dimensions: M rows, K inputs, N outputs. The bindings have checked all values.
#pragma once

#include "core/dtypes.hpp"
#include "core/params/epilogue.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop {

struct LinearForwardArgs {
  Dtype dtype;
  i64 M, N, K;
  Matrix x;               // [M,K]
  Matrix w;               // [N,K]
  Matrix residual;        // [M,N], or null data; else y = residual + dropout(...)
  void* y;                // [M,N] C order; while K is split into blocks, it may hold partial sums
  void* z;                // [M,N] C order, or null: the pre-activation, saved for backward
  EpilogueParams epilogue;  // for unit dropout, `outputs` holds the decisions and epilogue.mask only gives the scale
  Mask input_mask;        // of x, on the stream with its top bit flipped; for unit dropout see `inputs`
  ActiveColumns outputs;  // columns of y that unit dropout does not drop
  ActiveColumns inputs;   // columns of x that may be non-zero, or that unit dropout of x does not drop
  double input_scale;     // the scale of unit dropout of x
};

struct LinearBackwardArgs {
  Dtype dtype;
  i64 M, N, K;
  Matrix dy;                     // [M,N]
  Matrix x;                      // [M,K]
  Matrix w;                      // [N,K]
  const void* saved_activation;  // [M,N] C order: y or z as epilogue.saved_kind says, or null
  void* dx;                      // [M,K] C order, or null when not wanted
  void* dw;                      // [N,K] C order, or null when not wanted
  void* db;                      // [N], or null when not wanted
  EpilogueParams epilogue;       // this and the following members: as in forward
  Mask input_mask;
  ActiveColumns outputs;
  ActiveColumns inputs;
  double input_scale;
};

}  // namespace fusedrop
