// gemm: C = A Bᵀ with an epilogue, on the device: what the layers' products are made of.
//   A [M,K], B [N,K], any strides, either of them a list of rows or of k | C [M,N], rows and columns scattered by lists
#pragma once

#include "core/args.hpp"
#include "cuda/passes.hpp"
#include "cuda/stream.hpp"
#include "cuda/tile.hpp"

namespace fusedrop::cuda {

inline i64 element_bytes(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 2; }

struct Operand {
  const void* data;
  i64 row_stride, k_stride;
  const i32* rows = nullptr;  // row r of the operand is rows[r] of the array
  const i32* ks = nullptr;  // likewise for k
  Major major = Major::k;  // set by `arrange`, like the next
  bool vector = false;  // octets are 16 aligned bytes
};

// y = residual + dropout(act(C + b)), z = C + b; column j of C is column cols[j] of y, z, b and residual, row i row rows[i].
// With a list of either kind the mask keeps all that is listed: only the scale is left of it.
struct Finish {
  void* y;
  void* z = nullptr;
  i64 ld;
  const void* b = nullptr;
  i64 b_stride = 1;
  Matrix residual{};
  const i32* rows = nullptr;
  const i32* cols = nullptr;
  Activation activation = Activation::identity;
  bool before = false;
  Mask mask{};  // drops single elements, or nothing
  float scale = 1;
  bool vector = false;  // rows of y and z are multiples of 16 bytes apart, and begin at one; set by `arrange`
};

struct Gemm {
  Dtype dtype;
  bool tf32 = false;
  i64 M, N, K;  // at most; the counts, in device memory, are what there is
  const i32* m_count = nullptr;
  const i32* n_count = nullptr;
  const i32* k_count = nullptr;
  Operand a, b;
  Finish finish;
  i64 splits = 1;  // of K, set by `arrange`
  float* partial = nullptr;  // [splits, M, N] rounded up to whole tiles: the sums of each split
  bool small = false;  // tiles of 64x64 instead of 128x128
};

// Fills in what follows from the rest. The result depends on shapes and strides alone: the same bits on every device.
void arrange(Gemm& gemm);
i64 partial_floats(const Gemm& gemm);  // after arrange; 0: none is needed

void multiply(const Gemm& gemm, Stream stream);

// The parts of `multiply`: tiles of one kind, and the sum of splits.
void multiply_half(const Gemm& gemm, Stream stream);  // gemm_half.cu
void multiply_float(const Gemm& gemm, Stream stream);  // gemm_float.cu

}  // namespace fusedrop::cuda
