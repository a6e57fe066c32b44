// loops: C = A Bᵀ with an epilogue, on the device: the product that the layers use.
//   A [M,K], B [N,K], any strides; a list may select the rows or the k of each
//   C [M,N]; lists may scatter its rows and columns
#pragma once

#include "cuda/gemm/tile.hpp"
#include "cuda/linear/passes.hpp"
#include "devices/device_backend.hpp"

namespace fusedrop::cuda {

inline i64 element_bytes(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 2; }

struct Operand {
  const void* data;
  i64 row_stride, k_stride;
  const i32* rows = nullptr;  // row r of the operand is rows[r] of the array
  const i32* ks = nullptr;  // index k of the operand is ks[k] of the array
  Major major = Major::k;  // set by plan()
  bool vector = false;     // whether vec8s are 16 aligned bytes; set by plan()
};

// y = residual + dropout(act(C + b)), z = C + b. Column j of C is column cols[j] of y, z, b and residual; row i of C is
// row rows[i]. If there is a list, the mask keeps every listed element and only the scale applies.
struct EpilogueArgs {
  void* y;
  void* z = nullptr;
  i64 ld;
  const void* b = nullptr;
  i64 b_stride = 1;
  Matrix residual{};
  const i32* rows = nullptr;
  const i32* cols = nullptr;
  Activation activation = Activation::identity;
  bool dropout_first = false;
  Mask mask{};  // of single elements; drops nothing if there is a list
  float scale = 1;
  bool vector = false;  // whether each row of y and z begins at a multiple of 16 bytes; set by plan()
};

struct Gemm {
  Dtype dtype;
  bool tf32 = false;
  i64 M, N, K;  // upper bounds; the counts below, in device memory, replace them where they are not null
  const i32* m_count = nullptr;
  const i32* n_count = nullptr;
  const i32* k_count = nullptr;
  Operand a, b;
  EpilogueArgs epilogue;
  i64 splits = 1;            // of K; set by plan()
  float* partial = nullptr;  // [splits, M, N] with M and N rounded up to whole tiles: the sums of each split
  bool small = false;  // tiles of 64x64 instead of 128x128; set by plan()
};

// Sets the members that follow from the others. They depend on shapes, strides and alignment only, not on the GPU, so
// every device gives the same bits.
void plan(Gemm& gemm);
i64 partial_floats(const Gemm& gemm);  // size of `partial`; call plan() first

void multiply(const Gemm& gemm, Stream stream);

// The tiles of multiply(), by element type; multiply() adds the splits after them.
void multiply_half(const Gemm& gemm, Stream stream);   // half_tile.cu
void multiply_float(const Gemm& gemm, Stream stream);  // float_tile.cu

}  // namespace fusedrop::cuda
