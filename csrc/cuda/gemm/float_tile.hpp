// float_tile: C = A Bᵀ for float32: on CUDA cores with one rounding per product-sum, in the order of k; or on request
// in TF32 on tensor cores (both operands rounded to 11 bits).
//   A [M,K], B [N,K], any strides | a block computes one tile of C and applies the epilogue
// Tiling    128x128 or 64x64 by 256 threads; k-steps of 16, three of them in shared memory, stored as [k][rows]
// Copies    asynchronous, 4 bytes each: any stride and alignment; lines along k are transposed by the copy
// Numerics  sums of fma, k ascending; TF32: |error| <= (2^-10 + K 2^-23) sum |a b|
#pragma once

#include "cuda/gemm/epilogue.hpp"
#include "cuda/gemm/warp_sums.hpp"

namespace fusedrop::cuda {

// A thread's part of a k-step of 16, for an operand of `rows` rows. If lines run along k, a warp copies 8 values of k
// of 4 rows, which are whole sectors of memory. The stride of rows + 8 puts k .. k+3 of a TF32 fragment in different
// banks.
template <class Shape, int rows>
struct FloatTile {
  static constexpr int Stride = rows + 8;
  static constexpr int Bytes = Stride * Shape::K * 4;
  static constexpr int Copies = rows * Shape::K / Shape::Threads;

  struct At {
    int row, k;
  };
  // The c-th element that a thread copies.
  static FD_FN At copied(Major major, int thread, int c) {
    const int index = thread + c * Shape::Threads;
    if (major == Major::row) return {index % rows, index / rows};
    return {index / 8 % rows, index % 8 + 8 * (index / (8 * rows))};
  }
  // The c-th element is further(major, c) from the first one: lines() elements down the rows, then 8 on in k.
  static FD_FN constexpr int lines(Major major) { return major == Major::row ? 1 : rows / (Shape::Threads / 8); }
  static FD_FN constexpr At further(Major major, int c) {
    if (major == Major::row) return {0, c * (Shape::Threads / rows)};
    return {c % lines(major) * (Shape::Threads / 8), c / lines(major) * 8};
  }
  static FD_FN constexpr int offset(At at) { return (at.k * Stride + at.row) * 4; }
};

template <class Shape, int rows>
class FloatCopier {
  using Tile = FloatTile<Shape, rows>;

 public:
  __device__ __forceinline__ FloatCopier(const Operand& operand, i64 first_row, i64 row_end, i64 k_end)
      : operand_(operand), first_row_(first_row), rows_(at_most(rows, row_end - first_row)), k_end_(k_end) {}

  __device__ __forceinline__ void start(u32 tile, i64 k0) const {
    const int depth = at_most(Shape::K, k_end_ - k0);
    if (rows_ < rows || depth < Shape::K || operand_.rows != nullptr || operand_.ks != nullptr)
      return copy_partial(tile, k0, depth);
    if (operand_.major == Major::k) return copy_whole<Major::k>(tile, k0);
    copy_whole<Major::row>(tile, k0);
  }

 private:
  template <Major major>
  __device__ __forceinline__ void copy_whole(u32 tile, i64 k0) const {
    const auto first = Tile::copied(major, static_cast<int>(threadIdx.x), 0);
    const float* from = data() + (first_row_ + first.row) * operand_.row_stride + (k0 + first.k) * operand_.k_stride;
    const u32 to = tile + static_cast<u32>(Tile::offset(first));
    constexpr int lines = Tile::lines(major);
    const i64 down = Tile::further(major, 1).row * operand_.row_stride;
    const i64 across = Tile::further(major, lines).k * operand_.k_stride;
    // Each pointer is computed from the one before: keeping all of them would cost registers.
    #pragma unroll
    for (int c = 0; c < Tile::Copies; c += lines, from += across) {
      const float* at = from;
      #pragma unroll
      for (int line = 0; line < lines; ++line, at += down)
        cp_async_4(to + static_cast<u32>(Tile::offset(Tile::further(major, c + line))), at, 4);
    }
  }

  __device__ __forceinline__ void copy_partial(u32 tile, i64 k0, int depth) const {
    #pragma unroll 1
    for (int c = 0; c < Tile::Copies; ++c) {
      const auto at = Tile::copied(operand_.major, static_cast<int>(threadIdx.x), c);
      const i64 row = first_row_ + at.row, k = k0 + at.k;
      const bool inside = at.row < rows_ && at.k < depth;
      const i64 row_at = inside && operand_.rows != nullptr ? operand_.rows[row] : row;
      const i64 k_at = inside && operand_.ks != nullptr ? operand_.ks[k] : k;
      const float* from = inside ? data() + row_at * operand_.row_stride + k_at * operand_.k_stride : data();
      cp_async_4(tile + static_cast<u32>(Tile::offset(at)), from, inside ? 4 : 0);
    }
  }

  __device__ __forceinline__ const float* data() const { return static_cast<const float*>(operand_.data); }

  const Operand& operand_;
  i64 first_row_;
  int rows_;
  i64 k_end_;
};

// A thread's squares of 4x4 sums: rows [4y, 4y + 4) of every 64 rows of the tile, columns [4x, 4x + 4) of every 64
// columns. A warp has 4 values of y and 8 of x.
template <class Shape>
class FloatProduct {
  static constexpr int SquaresM = Shape::M / 64, SquaresN = Shape::N / 64;
  using TileA = FloatTile<Shape, Shape::M>;
  using TileB = FloatTile<Shape, Shape::N>;

 public:
  __device__ __forceinline__ FloatProduct() {
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
    y_ = warp / 2 * 4 + lane / 8, x_ = warp % 2 * 8 + lane % 8;
    #pragma unroll
    for (auto& line : sums_)
      for (float& sum : line) sum = 0;
  }

  __device__ __forceinline__ void add(const char* stage) {
    #pragma unroll
    for (int k = 0; k < Shape::K; ++k) {
      float a[4 * SquaresM], b[4 * SquaresN];
      load<SquaresM>(stage + 4 * (k * TileA::Stride + 4 * y_), a);
      load<SquaresN>(stage + TileA::Bytes + 4 * (k * TileB::Stride + 4 * x_), b);
      #pragma unroll
      for (int i = 0; i < 4 * SquaresM; ++i) {
        #pragma unroll
        for (int j = 0; j < 4 * SquaresN; ++j) sums_[i][j] = fma(a[i], b[j], sums_[i][j]);
      }
    }
  }

  __device__ __forceinline__ void store(float* sums) const {
    #pragma unroll
    for (int i = 0; i < 4 * SquaresM; ++i) {
      #pragma unroll
      for (int j = 0; j < 4 * SquaresN; ++j)
        sums[(64 * (i / 4) + 4 * y_ + i % 4) * Shape::SumStride + 64 * (j / 4) + 4 * x_ + j % 4] = sums_[i][j];
    }
  }

 private:
  template <int squares>
  static __device__ __forceinline__ void load(const char* from, float (&v)[4 * squares]) {
    #pragma unroll
    for (int s = 0; s < squares; ++s) load_four(reinterpret_cast<const float*>(from + 64 * 4 * s), v + 4 * s);
  }

  int y_, x_;
  float sums_[4 * SquaresM][4 * SquaresN];
};

// The same in TF32: a warp computes its part by 16x8 products over 8 values of k.
template <class Shape>
class Tf32Product : public WarpSums<Shape> {
  using TileA = FloatTile<Shape, Shape::M>;
  using TileB = FloatTile<Shape, Shape::N>;
  using Sums = WarpSums<Shape>;
  using Sums::FragmentsM, Sums::FragmentsN, Sums::row_, Sums::col_, Sums::sums_;

 public:
  __device__ __forceinline__ void add(const char* stage) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4, q = static_cast<int>(threadIdx.x) % 4;
    const float* a_tile = reinterpret_cast<const float*>(stage) + row_ + g;
    const float* b_tile = reinterpret_cast<const float*>(stage + TileA::Bytes) + col_ + g;
    #pragma unroll
    for (int k = 0; k < Shape::K; k += 8) {
      u32 a[FragmentsM][4], b[FragmentsN][2];
      #pragma unroll
      for (int i = 0; i < FragmentsM; ++i) {
        #pragma unroll
        for (int e = 0; e < 4; ++e)
          a[i][e] = cvt_rna_tf32(a_tile[(k + q + 4 * (e / 2)) * TileA::Stride + 16 * i + 8 * (e % 2)]);
      }
      #pragma unroll
      for (int j = 0; j < FragmentsN; ++j) {
        #pragma unroll
        for (int e = 0; e < 2; ++e) b[j][e] = cvt_rna_tf32(b_tile[(k + q + 4 * e) * TileB::Stride + 8 * j]);
      }
      #pragma unroll
      for (int i = 0; i < FragmentsM; ++i) {
        #pragma unroll
        for (int j = 0; j < FragmentsN; ++j) mma_m16n8k8(sums_[i][j], a[i], b[j][0], b[j][1]);
      }
    }
  }
};

template <class Shape, class Product>
__global__ void __launch_bounds__(Shape::Threads, 2) float_tile(const __grid_constant__ Gemm g) {
  constexpr u32 kTileA = FloatTile<Shape, Shape::M>::Bytes, kStage = kTileA + FloatTile<Shape, Shape::N>::Bytes;
  const Extent extent = extent_of(g);
  const Position tile = tile_of<Shape>(g, blockIdx.x);
  if (tile.m >= extent.M || tile.n >= extent.N) return;  // possible only where a list is shorter than the array
  const KSteps k_steps = k_steps_of<Shape>(g, extent, blockIdx.y);

  const FloatCopier<Shape, Shape::M> copier_a(g.a, tile.m, extent.M, extent.K);
  const FloatCopier<Shape, Shape::N> copier_b(g.b, tile.n, extent.N, extent.K);
  const u32 memory = shared_address(shared_memory);
  const auto stage_of = [&](int k_step) { return static_cast<u32>(k_step % Shape::Stages) * kStage; };
  const auto start = [&](int k_step) {
    if (k_step < k_steps.count) {
      copier_a.start(memory + stage_of(k_step), k_steps.template k_of<Shape>(k_step));
      copier_b.start(memory + stage_of(k_step) + kTileA, k_steps.template k_of<Shape>(k_step));
    }
    cp_async_commit_group();
  };
  for (int s = 0; s < Shape::Stages - 1; ++s) start(s);

  TileMaskBits<Shape> bits;
  bits.draw(g.epilogue.mask, tile);

  Product product;
  for (int k_step = 0; k_step < k_steps.count; ++k_step) {
    cp_async_wait_group<Shape::Stages - 2>();
    __syncthreads();
    start(k_step + Shape::Stages - 1);  // overwrites the previous k-step, which all threads have read
    product.add(shared_memory + stage_of(k_step));
  }
  cp_async_wait_group<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared_memory);
  product.store(sums);
  __syncthreads();
  epilogue_tile<float, Shape>(g, extent_of(g), tile, sums, bits);
}

}  // namespace fusedrop::cuda
