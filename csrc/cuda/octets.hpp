// octets: how the elementwise kernels go over a matrix. A thread has eight columns of a row, four neighbouring lanes a
// 32-column group, as draw.hpp wants it; rows follow each other, and the grid steps over what is left.
#pragma once

#include "cuda/launch.hpp"
#include "cuda/passes.hpp"
#include "cuda/vector.hpp"

namespace fusedrop::cuda {

constexpr u32 kWalkThreads = 256;
constexpr i64 kWalkBlocks = 4096;  // enough for every GPU's multiprocessors, several times over

FD_FN i64 octets_of_row(i64 N) { return divide_up(N, kGroup) * kQuad; }  // whole groups

// For a kernel that goes over [M, N] with OctetWalk; nothing is launched where there is no element.
inline Grid walk_grid(i64 M, i64 N) {
  return {minimum(divide_up(M * octets_of_row(N), kWalkThreads), kWalkBlocks), kWalkThreads};
}

// for (OctetWalk at(M, N); at.more(); at.next()): the lanes of a warp make the same number of steps, so that all of them
// draw; a lane that has nothing left finds valid() == 0. N > 0.
class OctetWalk {
 public:
  FD_DEVICE OctetWalk(i64 M, i64 N) : M_(M), N_(N), octets_(octets_of_row(N)) {
    const i64 first = static_cast<i64>(block_index()) * block_size() + thread_index();
    step_ = static_cast<i64>(grid_size()) * block_size();
    left_ = M * octets_ - (first - thread_index() % 32);
    row_ = first / octets_, octet_ = first % octets_;
    step_rows_ = step_ / octets_, step_octets_ = step_ % octets_;
  }
  FD_DEVICE bool more() const { return left_ > 0; }
  FD_DEVICE void next() {  // divides nothing: 64-bit division costs as much as a draw
    left_ -= step_;
    row_ += step_rows_, octet_ += step_octets_;
    if (octet_ >= octets_) octet_ -= octets_, ++row_;
  }
  FD_DEVICE i64 row() const { return row_; }
  FD_DEVICE i64 j() const { return octet_ * kOctet; }
  FD_DEVICE int valid() const { return row_ < M_ ? valid_of_octet(j(), N_) : 0; }

 private:
  i64 M_, N_, octets_, step_, left_, row_, octet_, step_rows_, step_octets_;
};

FD_DEVICE i64 count_of(const Columns& columns, i64 N) { return columns.index == nullptr ? N : *columns.count; }

// The mask of what is listed already: a unit mask has nothing more to drop.
FD_DEVICE Mask mask_within(const Columns& columns, Mask mask) {
  if (mask.unit && columns.index != nullptr) mask.threshold = 0;
  return mask;
}

// keep_octet for places j .. j+7 of a list of columns.
FD_DEVICE u32 keep_columns(const Mask& mask, i64 row, i64 j, const Columns& columns, int valid) {
  if (columns.index == nullptr) return keep_octet(mask, static_cast<u64>(row), static_cast<u64>(j));
  if (mask.threshold == 0) return 0xff;
  u32 bits = 0;
  for (int e = 0; e < valid; ++e)
    bits |= static_cast<u32>(keep_element(mask, static_cast<u64>(row), static_cast<u64>(columns.index[j + e]))) << e;
  return bits;
}

// load_octet for places j .. j+7 of a list of columns of the row that begins at `from`.
template <class S>
FD_DEVICE void load_columns(const S* from, i64 stride, i64 j, const Columns& columns, int valid, bool vectors,
                            float (&v)[kOctet]) {
  if (columns.index == nullptr) return load_octet(from + j * stride, stride, valid, vectors && valid == kOctet, v);
  FD_UNROLL
  for (int e = 0; e < kOctet; ++e) v[e] = e < valid ? widen(from[columns.index[j + e] * stride]) : 0.0f;
}

}  // namespace fusedrop::cuda
