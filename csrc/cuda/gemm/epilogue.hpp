// epilogue: from a tile's sums to y and z. Keep bits are drawn before the product, while its first tiles are being
// copied, and stay in registers, one byte per round. The sums go through shared memory, so that a thread has the eight
// columns that its keep byte covers.
#pragma once

#include "cuda/gemm/loops.hpp"
#include "cuda/gemm/mask_bits.hpp"
#include "cuda/gemm/vec8.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {

// The size of the product, with the counts that are in device memory.
struct Extent {
  i64 M, N, K;
};
__device__ __forceinline__ Extent extent_of(const Gemm& g) {
  return {g.m_count != nullptr ? *g.m_count : g.M, g.n_count != nullptr ? *g.n_count : g.N,
          g.k_count != nullptr ? *g.k_count : g.K};
}

template <class Shape>
__device__ __forceinline__ Position tile_of(const Gemm& g, i64 block) {
  const Position tile = tile_position(block, divide_up(g.M, Shape::M), divide_up(g.N, Shape::N));
  return {tile.m * Shape::M, tile.n * Shape::N};
}

struct KSteps {  // the k-steps of a block
  i64 first;
  int count;
  template <class Shape>
  __device__ __forceinline__ i64 k_of(int k_step) const {
    return (first + k_step) * Shape::K;
  }
};
template <class Shape>
__device__ __forceinline__ KSteps k_steps_of(const Gemm& g, const Extent& extent, i64 split) {
  const i64 k_steps = divide_up(extent.K, Shape::K), first = part_begin(k_steps, split, g.splits);
  return {first, static_cast<int>(part_begin(k_steps, split + 1, g.splits) - first)};
}

// One block per tile and split. Its shared memory holds the stages and, after the product, the sums.
template <class Shape>
LaunchGrid grid_of(const Gemm& g, u32 stages) {
  constexpr u32 sums = Shape::M * Shape::SumStride * sizeof(float);
  return {divide_up(g.M, Shape::M) * divide_up(g.N, Shape::N), Shape::Threads, stages > sums ? stages : sums,
          static_cast<u32>(g.splits)};
}

template <class S>
__device__ __forceinline__ const S* element(const Matrix& m, i64 row, i64 col) {
  return static_cast<const S*>(m.data) + row * m.row_stride + col * m.col_stride;
}

// Applies the epilogue to the sums v of row i, columns [j, j + 8) of C, and stores the first `valid` results.
template <class S>
__device__ __forceinline__ void epilogue_vec8(const EpilogueArgs& f, i64 i, i64 j, int valid, u32 keep,
                                              float (&v)[kVec8]) {
  if (valid <= 0) return;
  const i64 row = f.rows != nullptr ? f.rows[i] : i;
  const bool vector = f.vector && valid == kVec8 && f.cols == nullptr;
  const auto column = [&](int e) -> i64 { return f.cols != nullptr ? f.cols[j + e] : j + e; };
  const auto store = [&](void* to) {
    S* line = static_cast<S*>(to) + row * f.ld;
    if (f.cols == nullptr) return store_vec8(line + j, valid, vector, v);
    #pragma unroll
    for (int e = 0; e < kVec8; ++e)
      if (e < valid) narrow(v[e], line[column(e)]);
  };
  if (f.b != nullptr) {
    #pragma unroll
    for (int e = 0; e < kVec8; ++e)
      if (e < valid) v[e] += widen(static_cast<const S*>(f.b)[column(e) * f.b_stride]);
  }
  if (f.z != nullptr) store(f.z);
  with_activation(f.activation, [&](auto act) {
    #pragma unroll
    for (int e = 0; e < kVec8; ++e)
      v[e] = Epilogue<decltype(act)>::forward(v[e], (keep >> e & 1) != 0, f.scale, f.dropout_first);
  });
  if (f.residual.data != nullptr) {
    #pragma unroll
    for (int e = 0; e < kVec8; ++e)
      if (e < valid) v[e] = widen(*element<S>(f.residual, row, column(e))) + v[e];
  }
  store(f.y);
}

// The keep bits of a thread's vec8s in a tile: byte r % 4 of word r / 4 for round r.
template <class Shape>
struct TileMaskBits {
  static constexpr int InWord = Shape::Rounds < 4 ? Shape::Rounds : 4;
  u32 words[(Shape::Rounds + 3) / 4];

  __device__ __forceinline__ void draw(const Mask& given, Position tile) {
    #pragma unroll
    for (u32& word : words) word = ~0u;
    if (given.threshold == 0) return;
    const Mask mask = load_mask_key(given);
    if (!mask.unit && mask.repeat <= 1 && mask.period == 0 && mask.col0 % kGroup == 0)
      draw_rows(mask, tile);
    else
      draw_any(mask, tile);
  }

  // Has no branch, so that the calls of the generator for all rounds run in parallel.
  __device__ __forceinline__ void draw_rows(const Mask& mask, Position tile) {
    const u32 row = static_cast<u32>(mask.row0 + static_cast<u64>(tile.m));
    const u32 block = static_cast<u32>((mask.col0 + static_cast<u64>(tile.n)) / kGroup);
    #pragma unroll
    for (int r = 0; r < Shape::Rounds; ++r) {
      const Element e = epilogue_element<Shape>(static_cast<int>(threadIdx.x), r);
      const u32 word = quad_word(mask, row + static_cast<u32>(e.row), block + static_cast<u32>(e.col / kGroup));
      set(r, word >> (e.col % kGroup) & 0xff);
    }
  }

  // For unit masks, tied rows and a col0 that is not a multiple of 32.
  __device__ __forceinline__ void draw_any(const Mask& mask, Position tile) {
    #pragma unroll
    for (int first = 0; first < Shape::Rounds; first += InWord) {
      u32 bits = 0;
      #pragma unroll 1
      for (int r = first; r < first + InWord; ++r) {
        const Element e = epilogue_element<Shape>(static_cast<int>(threadIdx.x), r);
        const u32 byte = keep_vec8(mask, static_cast<u64>(tile.m + e.row), static_cast<u64>(tile.n + e.col));
        bits |= byte << (8 * (r - first));
      }
      words[first / 4] = bits;
    }
  }

  __device__ __forceinline__ void set(int round, u32 byte) { words[round / 4] ^= (byte ^ 0xff) << (8 * (round % 4)); }

  __device__ __forceinline__ u32 of(int round) const {  // by selection: registers cannot be indexed at run time
    u32 word = words[0];
    #pragma unroll
    for (int i = 1; i < (Shape::Rounds + 3) / 4; ++i) word = round / 4 == i ? words[i] : word;
    return word >> (8 * (round % 4)) & 0xff;
  }
};

// `sums` [Shape::M, Shape::SumStride] is in shared memory; all threads have written it before a barrier.
template <class S, class Shape>
__device__ __forceinline__ void epilogue_tile(const Gemm& g, const Extent& extent, Position tile, const float* sums,
                                              const TileMaskBits<Shape>& bits) {
  for (int r = 0; r < Shape::Rounds; ++r) {
    const Element e = epilogue_element<Shape>(static_cast<int>(threadIdx.x), r);
    const i64 i = tile.m + e.row, j = tile.n + e.col;
    float v[kVec8];
    load_vec8(sums + e.row * Shape::SumStride + e.col, 1, kVec8, true, v);
    if (g.splits == 1) {
      epilogue_vec8<S>(g.epilogue, i, j, i < extent.M ? valid_in_vec8(j, extent.N) : 0, bits.of(r), v);
    } else {  // `partial` has room for whole tiles
      const i64 M = round_up(g.M, Shape::M), N = round_up(g.N, Shape::N);
      store_vec8(g.partial + (blockIdx.y * M + i) * N + j, kVec8, true, v);
    }
  }
}

}  // namespace fusedrop::cuda
