// elementwise: the plain structs of dropout, masks, activations and softmax that cross from the bindings to a backend.
// The bindings have checked all values.
#pragma once

#include "core/activations.hpp"
#include "core/dtypes.hpp"
#include "core/mask.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop {

struct DropoutArgs {
  Dtype dtype;
  i64 M, N;
  Matrix x;      // [M,N]
  void* y;       // [M,N] C order
  Mask mask;
  double scale;  // 65536 / (65536 - t), or 1 for the unscaled dropout of textbooks
};

struct DropoutMaskArgs {
  i64 M, N;
  bool* keep;  // [M,N] C order
  Mask mask;
};

struct ActivationArgs {  // n contiguous elements
  Dtype dtype;
  i64 n;
  const void* x;   // the pre-activation
  const void* dy;  // null for forward, y = act(x); else backward, y = dy * act'(x)
  void* y;
  Activation activation;
};

struct SoftmaxArgs {  // cross-entropy of softmax(z), and its gradient
  Dtype dtype;
  i64 M, N;
  const void* z;      // [M,N] C order
  const i64* labels;  // [M], each in [0, N), or null where `target` is given
  const void* target;  // [M,N] C order: rows of probabilities, or null where `labels` is given
  void* dz;           // [M,N] C order
  double* row_loss;   // [M]: the loss of each row
};

}  // namespace fusedrop
