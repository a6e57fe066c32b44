// tile: the register tile (micro-kernel). All multiplications of matrix products are here.
//
//   tile[r][c] += sum_k A(r, k) * panel[k][c]     r < R <= MR, c < NR; starts from 0 or from the partial sums in `tile`
//
// Tiling    registers, AVX-512: 14 x 2 accumulators + 2 of the panel + 1 broadcast, of 32; AVX2: 6 x 2 + 2 + 1, of 16
// Numerics  one fma per product, in the order of k: a row of the result depends only on its row of A and on the panel
// A         by_rows: A(r, k) = a[r*lda + k]; lda is a compile-time constant, so that one register addresses all rows
//           by_cols: A(r, k) = a[k*lda + r]
// k counts k-steps: pairs of bfloat16 where the CPU multiplies pairs (cpu/gemm/format.hpp).
#pragma once

#include "cpu/gemm/format.hpp"

// Keeps one copy of a function in an object file: no inlining, no clone for a constant argument. Clang has no noclone.
#if defined(__clang__)
#define FD_ONE_COPY __attribute__((noinline))
#else
#define FD_ONE_COPY __attribute__((noinline, noclone))
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct Tiling {
  static constexpr int W = Vec<T>::W;
  static constexpr int NV = FD_ISA_LEVEL == 0 ? 4 : 2;  // vectors per row
  static constexpr int MR = FD_ISA_LEVEL == 2 ? 14 : FD_ISA_LEVEL == 1 ? 6 : 2;  // rows
  static constexpr int NR = NV * W;
  static constexpr i64 KC = sizeof(T) == 4 ? 1024 : 512;  // most k-steps of a packed block: a row of A is 4 KB
  static constexpr i64 MC = FD_ISA_LEVEL == 1 ? 192 : 224;  // rows of a packed block of A: whole tiles, whole groups
  static constexpr i64 LDA = KC + 64 / sizeof(T);  // by_rows; KC and one cache line: rows start in different cache sets
};
static_assert(kGroup % Tiling<float>::NR == 0 && kGroup % Tiling<double>::NR == 0, "panels divide the mask's groups");
static_assert(Tiling<float>::MC % Tiling<float>::MR == 0 && Tiling<float>::MC % kGroup == 0, "whole tiles and groups");

enum class Order { by_rows, by_cols };

// Computes NV vectors of each row: all, or only the first where the others are padding. All products of an object file
// share one copy. The call costs nothing beside the loop over k, and inlined copies cost a fifth of the build time.
template <class S, Order order, int R, int NV, class T = acc_t<S>>
FD_ONE_COPY void micro_tile(i64 depth, const T* __restrict a, i64 lda, const T* __restrict panel, T* __restrict tile,
                            bool resume) {
  using V = Vec<T>;
  constexpr int NR = Tiling<T>::NR;
  const i64 ld = order == Order::by_rows ? Tiling<T>::LDA : lda;
  // Pragmas unroll all loops over the tile. Without them GCC keeps `acc` in memory before and after the loop over k.
  V acc[R][NV];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] = resume ? V::load(tile + r * NR + v * V::W) : V(T(0));
#pragma GCC unroll 4
  for (i64 k = 0; k < depth; ++k) {
    V b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = V::load(panel + v * V::W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V x(order == Order::by_rows ? a[r * ld + k] : a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[r][v] = Format<S>::multiply_add(x, b[v], acc[r][v]);
    }
    panel += NR;
    if (order == Order::by_cols) a += ld;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v].store(tile + r * NR + v * V::W);
}

template <class T>
struct TileOperands {  // as in micro_tile
  i64 depth;
  const T* a;
  i64 lda;
  const T* panel;
};

// Runs the instance of micro_tile for 1 <= rows <= MR, and for one vector of columns or all: tails do no extra work.
template <class S, Order order, class T = acc_t<S>, int R = Tiling<T>::MR>
FD_FN void run_micro_tile(int rows, i64 cols, const TileOperands<T>& of, T* tile, bool resume) {
  if constexpr (R >= 1) {
    using Tile = typename Format<S>::Tile;
    if (rows < R) return run_micro_tile<S, order, T, R - 1>(rows, cols, of, tile, resume);
    if (cols <= Vec<T>::W) return micro_tile<Tile, order, R, 1>(of.depth, of.a, of.lda, of.panel, tile, resume);
    micro_tile<Tile, order, R, Tiling<T>::NV>(of.depth, of.a, of.lda, of.panel, tile, resume);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
