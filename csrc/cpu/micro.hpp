// micro: the register tile, the one place where the multiplications happen.
//
//   tile[r][c] += sum_k A(r, k) * panel[k][c]     r < R <= MR, c < NR; starts from 0 or from the tile's partial sums
//
// Tiling    AVX-512: 14 x 2 accumulators + 2 of the panel + 1 broadcast of 32 registers; AVX2: 6 x 2 + 2 + 1 of 16
// Numerics  one fma a product, in the order of k: a row's result depends on nothing but its own row and w
// A         by_rows: A(r, k) = a[r*lda + k], lda fixed at compile time so that one register addresses all rows
//           by_cols: A(r, k) = a[k*lda + r]
// k counts steps: of pairs of bfloat16, where the CPU multiplies those (format.hpp).
#pragma once

#include "cpu/format.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct Tiling {
  static constexpr int W = Vec<T>::W;
  static constexpr int NV = FD_ISA_LEVEL == 0 ? 4 : 2;                           // packs a row
  static constexpr int MR = FD_ISA_LEVEL == 2 ? 14 : FD_ISA_LEVEL == 1 ? 6 : 2;  // rows
  static constexpr int NR = NV * W;
  static constexpr i64 KC = sizeof(T) == 4 ? 1024 : 512;  // steps packed at a time, at most: a row of A is 4 KB
  static constexpr i64 MC = FD_ISA_LEVEL == 1 ? 192 : 224;  // rows of A packed at a time: whole tiles, whole groups
  static constexpr i64 LDA = KC + 64 / sizeof(T);  // by_rows; one more line than KC: rows start in different cache sets
};
static_assert(kGroup % Tiling<float>::NR == 0 && kGroup % Tiling<double>::NR == 0, "panels divide the mask's groups");
static_assert(Tiling<float>::MC % Tiling<float>::MR == 0 && Tiling<float>::MC % kGroup == 0, "whole tiles and groups");

enum class Order { by_rows, by_cols };

// NV packs of a panel's row are computed: all, or the first where the others are padding.
template <class S, Order order, int R, int NV, class T = sum_of<S>>
void micro_tile(i64 depth, const T* __restrict a, i64 lda, const T* __restrict panel, T* __restrict tile, bool resume) {
  using V = Vec<T>;
  constexpr int NR = Tiling<T>::NR;
  const i64 ld = order == Order::by_rows ? Tiling<T>::LDA : lda;
  // All loops over the tile are unrolled by request: left alone, GCC keeps `acc` in memory before and after the loop.
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

// Runs the instance for `rows` of 1 .. MR and for `cols` of up to one pack or more: tails do no work beyond that.
template <class S, Order order, class T = sum_of<S>, int R = Tiling<T>::MR>
FD_FN void run_micro_tile(int rows, i64 cols, i64 depth, const T* a, i64 lda, const T* panel, T* tile, bool resume) {
  if constexpr (R >= 1) {
    if (rows < R) return run_micro_tile<S, order, T, R - 1>(rows, cols, depth, a, lda, panel, tile, resume);
    if (cols <= Vec<T>::W) return micro_tile<S, order, R, 1>(depth, a, lda, panel, tile, resume);
    micro_tile<S, order, R, Tiling<T>::NV>(depth, a, lda, panel, tile, resume);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
