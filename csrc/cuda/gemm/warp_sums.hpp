// warp_sums: a warp's part of a tile's sums, in the layout of tensor cores: accumulators of 16x8 products.
#pragma once

#include "cuda/gemm/tile.hpp"
#include "cuda/runtime/ptx.hpp"

namespace fusedrop::cuda {

template <class Shape>
class WarpSums {
 public:
  __device__ __forceinline__ WarpSums() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    row_ = warp / Shape::WarpsN * Shape::WarpM;
    col_ = warp % Shape::WarpsN * Shape::WarpN;
    #pragma unroll
    for (auto& line : sums_)
      for (auto& fragment : line)
        for (float& sum : fragment) sum = 0;
  }

  __device__ __forceinline__ void store(float* sums) const {  // [Shape::M, Shape::SumStride]
    const int lane = static_cast<int>(threadIdx.x) % 32;
    #pragma unroll
    for (int i = 0; i < FragmentsM; ++i) {
      #pragma unroll
      for (int j = 0; j < FragmentsN; ++j) {
        #pragma unroll
        for (int e = 0; e < 4; ++e) {
          const Element at = accumulator(lane, e);
          sums[(row_ + 16 * i + at.row) * Shape::SumStride + col_ + 8 * j + at.col] = sums_[i][j][e];
        }
      }
    }
  }

 protected:
  static constexpr int FragmentsM = Shape::WarpM / 16, FragmentsN = Shape::WarpN / 8;
  int row_, col_;  // of the first element of the warp's part
  float sums_[FragmentsM][FragmentsN][4];
};

}  // namespace fusedrop::cuda
