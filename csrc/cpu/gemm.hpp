// gemm: the loops around the register tile, C = A B for one thread's rectangle of C.
//
//   for each NC columns, for each KC of K:          pack B
//     for each MC rows:                             pack A
//       for each 32-column strip, panel, MR rows:   tile
//
// The operands come from packers, C goes to a sink:
//   pack_a(i, rows, k, depth, dst)   pack_b(k, depth, j, cols, dst)
//   sink.begin_strip(i, rows, j, cols)              before the tiles of a strip's last K block
//   sink.finish(i, rows, j, cols, tile)             a finished tile, row stride NR
//   sink.c(), sink.ld()                             where partial sums wait between K blocks: C itself
//
// Tiling    a panel (KC x NR) and a block of A (MC x KC) stay in the L2 while their tiles run, all panels in the L3
// Numerics  each element of C is one chain of fma over k = 0 .. K-1, whatever the thread, tile or block
#pragma once

#include "cpu/micro.hpp"
#include "cpu/pack.hpp"
#include "cpu/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

FD_FN constexpr i64 minimum(i64 a, i64 b) { return a < b ? a : b; }
FD_FN constexpr i64 round_up(i64 value, i64 unit) { return (value + unit - 1) / unit * unit; }

// K in equal blocks of at most KC, multiples of 16 but the last: 784 becomes 400 + 384 rather than 512 + 272.
template <class T>
FD_FN i64 block_depth(i64 K) {
  const i64 blocks = (K + Tiling<T>::KC - 1) / Tiling<T>::KC;
  return blocks <= 1 ? K : minimum(round_up((K + blocks - 1) / blocks, 16), Tiling<T>::KC);
}

template <class T>
FD_FN constexpr i64 a_block_elements(Order order) {
  return order == Order::by_rows ? Tiling<T>::MC * Tiling<T>::LDA : Tiling<T>::KC * round_up(Tiling<T>::MC, kGroup);
}

template <class T>
FD_FN i64 b_block_elements(i64 cols, i64 K) {
  return round_up(minimum(cols, Tiling<T>::NC), kGroup) * block_depth<T>(K);
}

template <class T>
void copy_tile(const T* src, i64 src_ld, i64 rows, i64 cols, T* dst, i64 dst_ld) {
  for (i64 r = 0; r < rows; ++r) copy_row(src + r * src_ld, cols, dst + r * dst_ld);
}

// One strip of C: its panels against all row tiles of the packed block of A.
template <Order order, class T, class Sink>
void multiply_strip(Range rows, i64 depth, i64 j, i64 cols, const T* a, i64 lda, const T* panels, bool first, bool last,
                    Sink& sink) {
  constexpr int MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  alignas(64) T tile[MR * NR];
  for (i64 c = 0; c < cols; c += NR, panels += depth * NR) {
    const i64 n = minimum(NR, cols - c);
    for (i64 i = rows.begin; i < rows.end; i += MR) {
      const i64 m = minimum(MR, rows.end - i);
      T* c_tile = sink.c() + i * sink.ld() + j + c;
      const T* a_tile = order == Order::by_rows ? a + (i - rows.begin) * lda : a + (i - rows.begin);
      if (!first) copy_tile(c_tile, sink.ld(), m, n, tile, NR);
      run_micro_tile<T, order>(static_cast<int>(m), depth, a_tile, lda, panels, tile, !first);
      if (last)
        sink.finish(i, m, j + c, n, tile);
      else
        copy_tile(tile, NR, m, n, c_tile, sink.ld());
    }
  }
}

template <Order order, class T, class PackA, class PackB, class Sink>
void gemm_rectangle(Range rows, Range cols, i64 K, PackA& pack_a, PackB& pack_b, Sink& sink, T* a, T* b) {
  constexpr i64 MC = Tiling<T>::MC, NC = Tiling<T>::NC;
  const i64 kc = block_depth<T>(K);
  const i64 lda = order == Order::by_rows ? Tiling<T>::LDA : round_up(MC, kGroup);
  for (i64 jc = cols.begin; jc < cols.end; jc += NC) {
    const i64 nc = minimum(NC, cols.end - jc);
    i64 k = 0;
    do {  // once for K = 0: the sums are empty, the epilogue is not
      const i64 depth = minimum(kc, K - k);
      pack_b(k, depth, jc, nc, b);
      for (i64 ic = rows.begin; ic < rows.end; ic += MC) {
        const Range block{ic, minimum(ic + MC, rows.end)};
        pack_a(ic, block.size(), k, depth, a);
        for (i64 s = 0; s < nc; s += kGroup) {
          const i64 n = minimum(kGroup, nc - s);
          const bool last = k + depth >= K;
          if (last) sink.begin_strip(ic, block.size(), jc + s, n);
          multiply_strip<order>(block, depth, jc + s, n, a, lda, b + s * depth, k == 0, last, sink);
        }
      }
      k += depth;
    } while (k < K);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
