// args: the plain structs that cross from the bindings to a backend. Strides count elements. Letters as in README.md:
// M rows, K inputs, N outputs; everything is checked before it gets here.
#pragma once

#include "core/bfloat16.hpp"
#include "core/epilogue.hpp"
#include "core/float16.hpp"
#include "core/mask.hpp"

namespace fusedrop {

enum class Dtype { float32, float64, bfloat16, float16 };  // float64: CPU only; float16: CUDA only

// Calls f with a value of the type that the CPU's arrays of `dtype` store.
template <class F>
FD_FN auto with_dtype(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::float64:
      return f(double{});
    case Dtype::bfloat16:
      return f(bfloat16{});
    default:
      return f(float{});
  }
}

struct Matrix {  // a strided view of the caller's array, read only
  const void* data = nullptr;
  i64 row_stride = 0;
  i64 col_stride = 0;
};

struct Kept {  // which columns of a matrix count; the others are dropped, or known to be zero
  i64 count = 0;
  const i64* index = nullptr;  // [count] ascending; null: all columns count
  const u32* words = nullptr;           // the same as bits, 32 columns a word, and a spare word
};

struct LinearForwardArgs {
  Dtype dtype;
  i64 M, N, K;
  Matrix x;         // [M,K]
  Matrix w;         // [N,K]
  const void* b;    // [N] or null
  i64 b_stride;
  Matrix residual;  // [M,N] or null data: y = residual + dropout(...)
  void* y;          // [M,N] C order; it may hold partial sums of a split K on the way
  void* z;          // [M,N] C order or null: the pre-activation, for backward
  Activation activation;
  bool before;      // dropout before the activation
  Mask mask;        // of y; for unit dropout `outputs` is that mask, and this its scale
  Mask input_mask;  // of x, on the stream with its top bit flipped; for unit dropout see `inputs`
  Kept outputs;     // columns of y that unit dropout keeps
  Kept inputs;      // columns of x that are not zero, or that unit dropout keeps ...
  double input_scale;  // ... with this scale
};

struct LinearBackwardArgs {
  Dtype dtype;
  i64 M, N, K;
  Matrix dy;          // [M,N]
  Matrix x;           // [M,K]
  Matrix w;           // [N,K]
  const void* kept;   // [M,N] C order: y or z as `saved` says, or null
  Saved saved;
  void* dx;           // [M,K] C order or null when not wanted
  void* dw;           // [N,K] C order or null
  void* db;           // [N] or null
  Activation activation;
  bool before;
  Mask mask;
  Mask input_mask;
  Kept outputs;
  Kept inputs;
  double input_scale;
};

struct DropoutArgs {
  Dtype dtype;
  i64 M, N;
  Matrix x;      // [M,N]
  void* y;       // [M,N] C order
  Mask mask;
  double scale;  // 65536 / (65536 - t), or 1 for the textbook's unscaled form
};

struct ActivationArgs {  // over n contiguous elements
  Dtype dtype;
  i64 n;
  const void* x;   // pre-activation
  const void* dy;  // null: y = act(x); else y = dy * act'(x)
  void* y;
  Activation activation;
};

struct SoftmaxArgs {  // cross-entropy of softmax(z), and its gradient
  Dtype dtype;
  i64 M, N;
  const void* z;      // [M,N] C order
  const i64* labels;  // [M], each in [0, N), or null
  const void* target;  // [M,N] C order where labels is null: rows of probabilities
  void* dz;           // [M,N] C order
  double* row_loss;   // [M]
};

enum class UpdateRule { sgd, adam };

struct UpdatePart {  // one parameter
  Dtype dtype;
  void* value;       // n contiguous elements, updated in place
  const void* grad;  // n contiguous elements
  void* first;       // velocity or first moment, in the type of the sums; null: none is kept
  void* second;      // second moment, likewise
  i64 n;
  bool penalised;    // l1 and l2 count
};

struct UpdateArgs {  // one step of an optimiser, see core/update.hpp
  const UpdatePart* parts;
  i64 count;
  UpdateRule rule;
  double lr;     // for Adam already over 1 - beta1^t
  double l1, l2;
  double beta1;  // or momentum
  bool nesterov;
  double beta2, root, eps;  // Adam's; root = 1 / sqrt(1 - beta2^t)
};

struct DropoutMaskArgs {
  i64 M, N;
  bool* keep;  // [M,N] C order
  Mask mask;
};

}  // namespace fusedrop
