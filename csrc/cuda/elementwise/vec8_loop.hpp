// vec8_loop: how the elementwise kernels iterate over a matrix. A thread has eight columns of a row, and four
// neighboring lanes have a 32-column group, as gemm/mask_bits.hpp requires. Threads cover row after row, with the
// whole grid as the stride.
#pragma once

#include "cuda/gemm/vec8.hpp"
#include "cuda/linear/passes.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {

constexpr u32 kLoopThreads = 256;
constexpr i64 kLoopBlocks = 4096;  // several times the multiprocessors of any GPU

FD_FN i64 vec8s_per_row(i64 N) { return divide_up(N, kGroup) * kQuad; }  // rounded up to whole groups

// The grid of a kernel that iterates over [M, N] with Vec8Loop. It is empty if there is no element.
inline LaunchGrid vec8_grid(i64 M, i64 N) {
  return {minimum(divide_up(M * vec8s_per_row(N), kLoopThreads), kLoopBlocks), kLoopThreads};
}

// for (Vec8Loop at(M, N); at.more(); at.next()): all lanes of a warp make the same number of iterations, because they
// draw mask bits together. A lane past the end has valid() == 0. Requires N > 0.
class Vec8Loop {
 public:
  __device__ __forceinline__ Vec8Loop(i64 M, i64 N) : M_(M), N_(N), vec8s_(vec8s_per_row(N)) {
    const i64 first = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    stride_ = static_cast<i64>(gridDim.x) * blockDim.x;
    left_ = M * vec8s_ - (first - threadIdx.x % 32);
    row_ = first / vec8s_, vec8_ = first % vec8s_;
    stride_rows_ = stride_ / vec8s_, stride_vec8s_ = stride_ % vec8s_;
  }
  __device__ __forceinline__ bool more() const { return left_ > 0; }
  // Without a division: a 64-bit division costs as much as a call of the generator.
  __device__ __forceinline__ void next() {
    left_ -= stride_;
    row_ += stride_rows_, vec8_ += stride_vec8s_;
    if (vec8_ >= vec8s_) vec8_ -= vec8s_, ++row_;
  }
  __device__ __forceinline__ i64 row() const { return row_; }
  __device__ __forceinline__ i64 j() const { return vec8_ * kVec8; }
  __device__ __forceinline__ int valid() const { return row_ < M_ ? valid_in_vec8(j(), N_) : 0; }

 private:
  i64 M_, N_, vec8s_, stride_, left_, row_, vec8_, stride_rows_, stride_vec8s_;
};

__device__ __forceinline__ i64 count_of(const ColumnList& columns, i64 N) {
  return columns.index == nullptr ? N : *columns.count;
}

// The mask to apply to listed columns: a unit mask is already applied by the list.
__device__ __forceinline__ Mask mask_within(const ColumnList& columns, Mask mask) {
  if (mask.unit && columns.index != nullptr) mask.threshold = 0;
  return mask;
}

// keep_vec8 for entries [j, j + 8) of a list of columns.
__device__ __forceinline__ u32 keep_columns(const Mask& mask, i64 row, i64 j, const ColumnList& columns, int valid) {
  if (columns.index == nullptr) return keep_vec8(mask, static_cast<u64>(row), static_cast<u64>(j));
  if (mask.threshold == 0) return 0xff;
  u32 bits = 0;
  for (int e = 0; e < valid; ++e)
    bits |= static_cast<u32>(keep_element(mask, static_cast<u64>(row), static_cast<u64>(columns.index[j + e]))) << e;
  return bits;
}

template <class S>
struct Source {  // a matrix to load
  __device__ __forceinline__ explicit Source(const Matrix& m)
      : data(static_cast<const S*>(m.data)),
        row_stride(m.row_stride),
        col_stride(m.col_stride),
        vectors(moves_as_vectors<S>(m.data, m.row_stride, m.col_stride)) {}
  const S* data;
  i64 row_stride, col_stride;
  bool vectors;
};

// load_vec8 for entries [j, j + 8) of a list of columns.
template <class S>
__device__ __forceinline__ void load_columns(const Source<S>& from, i64 row, i64 j, const ColumnList& columns,
                                             int valid, float (&v)[kVec8]) {
  const S* line = from.data + row * from.row_stride;
  if (columns.index == nullptr)
    return load_vec8(line + j * from.col_stride, from.col_stride, valid, from.vectors && valid == kVec8, v);
  #pragma unroll
  for (int e = 0; e < kVec8; ++e) v[e] = e < valid ? widen(line[columns.index[j + e] * from.col_stride]) : 0.0f;
}

}  // namespace fusedrop::cuda
