// half_tile: C = A Bᵀ for bfloat16 or float16 on tensor cores by mma.sync, sums in float32.
//   A [M,K], B [N,K], each with lines along k or along rows | a block computes one tile of C and applies the epilogue
// Tiling    128x128 by four warps of 64x64, or 64x64 by four of 32x32; k-steps of 32, four of them in shared memory
// Pipeline  a k-step's copies start three k-steps ahead; fragments are loaded half a k-step ahead; one barrier a k-step
// Tails     elements past the end are copied as zeros; nothing is read past the last element
// Numerics  products are exact; tensor cores add them in float32, in the order of k between instructions; the error
//           bound is that of K float32 sums
// Later     a tile for another generation (wgmma) is one more file like this one, chosen in half_tile.cu
#pragma once

#include "cuda/gemm/epilogue.hpp"
#include "cuda/gemm/warp_sums.hpp"

namespace fusedrop::cuda {

// Copies an operand's tiles into shared memory: by asynchronous copies of 16 bytes, or element by element where the
// array's strides or address do not allow them. It recomputes rather than stores: registers are scarce, instructions
// are not.
template <class S, class Shape, Major major, int rows>
class HalfCopier {
  using Tile = HalfTile<major, rows, Shape::K>;
  static constexpr int Copies = Tile::Lines * Tile::Vec8s / Shape::Threads;

 public:
  __device__ __forceinline__ HalfCopier(const Operand& operand, i64 first_row, i64 row_end, i64 k_end)
      : operand_(operand), first_row_(first_row), rows_(at_most(rows, row_end - first_row)), k_end_(k_end) {
    plain_ = rows_ == rows && operand.vector && operand.rows == nullptr && operand.ks == nullptr;
  }

  __device__ __forceinline__ void start(u32 tile, i64 k0) const {
    const int depth = at_most(Shape::K, k_end_ - k0);
    if (plain_ && depth == Shape::K)
      copy_whole(tile, k0);
    else
      copy_partial(tile, k0, depth);
  }

 private:
  // The tile is complete: the same stride leads from line to line.
  __device__ __forceinline__ void copy_whole(u32 tile, i64 k0) const {
    const Place p = Tile::copied(static_cast<int>(threadIdx.x), 0, Shape::Threads);
    const i64 line = major == Major::k ? first_row_ + p.line : k0 + p.line;
    const i64 along = (major == Major::k ? k0 : first_row_) + 8 * p.vec8;
    const i64 stride = major == Major::k ? operand_.row_stride : operand_.k_stride;
    const S* from = static_cast<const S*>(operand_.data) + line * stride + along;
    const u32 to = tile + static_cast<u32>(Tile::offset(p));
    #pragma unroll
    for (int c = 0; c < Copies; ++c)
      cp_async_16(to + static_cast<u32>(c * Tile::copy_bytes(Shape::Threads)),
                  from + c * (Shape::Threads / Tile::Vec8s) * stride);
  }

  __device__ __forceinline__ void copy_partial(u32 tile, i64 k0, int depth) const {
    #pragma unroll 1
    for (int c = 0; c < Copies; ++c) {
      const Place p = Tile::copied(static_cast<int>(threadIdx.x), c, Shape::Threads);
      const int row = major == Major::k ? p.line : 8 * p.vec8, k = major == Major::k ? 8 * p.vec8 : p.line;
      const bool on_line = major == Major::k ? row < rows_ : k < depth;
      const int valid = on_line ? valid_in_vec8(major == Major::k ? k : row, major == Major::k ? depth : rows_) : 0;
      const u32 to = tile + static_cast<u32>(Tile::offset(p));
      if (operand_.vector)
        cp_async_16(to, valid > 0 ? element(row, k0 + k) : static_cast<const S*>(operand_.data), 2 * valid);
      else
        gather(reinterpret_cast<S*>(shared_memory + to - shared_address(shared_memory)), row, k0 + k, valid);
    }
  }

  __device__ __forceinline__ const S* element(int row, i64 k) const {
    const i64 r = operand_.rows != nullptr ? operand_.rows[first_row_ + row] : first_row_ + row;
    const i64 c = operand_.ks != nullptr ? operand_.ks[k] : k;
    return static_cast<const S*>(operand_.data) + r * operand_.row_stride + c * operand_.k_stride;
  }

  __device__ __forceinline__ void gather(S* to, int row, i64 k, int valid) const {
    #pragma unroll 1
    for (int e = 0; e < kVec8; ++e)
      to[e] = e < valid ? *element(row + (major == Major::k ? 0 : e), k + (major == Major::k ? e : 0)) : S{};
  }

  const Operand& operand_;
  i64 first_row_;
  int rows_;
  i64 k_end_;
  bool plain_;
};

template <class S, class Shape, Major major_a, Major major_b>
class HalfProduct : public WarpSums<Shape> {
  using TileA = HalfTile<major_a, Shape::M, Shape::K>;
  using TileB = HalfTile<major_b, Shape::N, Shape::K>;
  using Sums = WarpSums<Shape>;
  using Sums::FragmentsM, Sums::FragmentsN, Sums::row_, Sums::col_, Sums::sums_;
  static constexpr int Halves = Shape::K / 16;
  static_assert(Halves == 2, "fragments are loaded half a k-step ahead");

 public:
  static constexpr u32 kTileA = TileA::Bytes, kStage = kTileA + TileB::Bytes;

  // Loads the fragments of half h of the k-step at `stage` into set h.
  __device__ __forceinline__ void load(u32 stage, int h) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    #pragma unroll
    for (int i = 0; i < FragmentsM; ++i) {
      const u32 at = stage + static_cast<u32>(TileA::offset(fragment_a<major_a>(lane, row_ + 16 * i, 16 * h)));
      if (major_a == Major::k)
        ldmatrix_x4(a_[h][i], at);
      else
        ldmatrix_x4_trans(a_[h][i], at);
    }
    #pragma unroll
    for (int j = 0; j < FragmentsN / 2; ++j) {
      const u32 at = stage + kTileA + static_cast<u32>(TileB::offset(fragment_b<major_b>(lane, col_ + 16 * j, 16 * h)));
      if (major_b == Major::k)
        ldmatrix_x4(b_[h][j], at);
      else
        ldmatrix_x4_trans(b_[h][j], at);
    }
  }

  __device__ __forceinline__ void add(int h) {
    #pragma unroll
    for (int i = 0; i < FragmentsM; ++i) {
      #pragma unroll
      for (int j = 0; j < FragmentsN; ++j)
        mma_m16n8k16(sums_[i][j], a_[h][i], b_[h][j / 2][2 * (j % 2)], b_[h][j / 2][2 * (j % 2) + 1], S{});
    }
  }

 private:
  u32 a_[2][FragmentsM][4], b_[2][FragmentsN / 2][4];
};

template <class S, class Shape, Major major_a, Major major_b>
__global__ void __launch_bounds__(Shape::Threads, 2) half_tile(const __grid_constant__ Gemm g) {
  using Product = HalfProduct<S, Shape, major_a, major_b>;
  const Position tile = tile_of<Shape>(g, blockIdx.x);
  const Extent extent = extent_of(g);
  if (tile.m >= extent.M || tile.n >= extent.N) return;  // possible only where a list is shorter than the array
  const KSteps k_steps = k_steps_of<Shape>(g, extent, blockIdx.y);

  const HalfCopier<S, Shape, major_a, Shape::M> copier_a(g.a, tile.m, extent.M, extent.K);
  const HalfCopier<S, Shape, major_b, Shape::N> copier_b(g.b, tile.n, extent.N, extent.K);
  const u32 memory = shared_address(shared_memory);
  const auto stage_of = [&](int k_step) { return memory + static_cast<u32>(k_step % Shape::Stages) * Product::kStage; };
  const auto start = [&](int k_step) {
    if (k_step < k_steps.count) {
      copier_a.start(stage_of(k_step), k_steps.template k_of<Shape>(k_step));
      copier_b.start(stage_of(k_step) + Product::kTileA, k_steps.template k_of<Shape>(k_step));
    }
    cp_async_commit_group();
  };
  for (int s = 0; s < Shape::Stages - 1; ++s) start(s);

  TileMaskBits<Shape> bits;
  bits.draw(g.epilogue.mask, tile);

  Product product;
  cp_async_wait_group<Shape::Stages - 2>();
  __syncthreads();
  if (k_steps.count > 0) product.load(stage_of(0), 0);
  for (int k_step = 0; k_step < k_steps.count; ++k_step) {
    product.load(stage_of(k_step), 1);
    start(k_step + Shape::Stages - 1);  // overwrites the previous k-step, which all threads have read
    product.add(0);
    cp_async_wait_group<Shape::Stages - 2>();
    __syncthreads();
    if (k_step + 1 < k_steps.count) product.load(stage_of(k_step + 1), 0);
    product.add(1);
  }
  cp_async_wait_group<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared_memory);
  product.store(sums);
  __syncthreads();
  epilogue_tile<S, Shape>(g, extent_of(g), tile, sums, bits);
}

}  // namespace fusedrop::cuda
