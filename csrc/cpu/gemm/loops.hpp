// loops: the loops around the register tile, C = A B for one thread's rectangle of C.
//
//   for each NC columns, for each band of rows, for each KC k-steps:
//     for each MC rows of the band:                 pack A
//       for each 32-column strip:                   pack B (only for the first MC rows of the band)
//         for each panel, for each MR rows:         run the register tile
//
// Packers deliver the operands, and a sink takes C. k_step and depth count k-steps, see cpu/gemm/format.hpp.
//   pack_a(i, rows, k_step, depth, dst, first)      packs a block of A; first: this block is packed for the first time
//   pack_b(k_step, depth, j, cols, dst)             packs one strip of B
//   sink.begin_strip(i, rows, j, cols)              called before the tiles of a strip, in the last block of K
//   sink.epilogue(i, rows, j, cols, tile)           takes a complete tile, row stride NR
//   sink.prefetch(i, rows, j, cols)                 prefetches the memory that sink.epilogue will write
//   sink.c(), sink.ld()                             C itself and its row stride, where sink.holds_sums()
//
// Tiling    a panel and a block of A stay in the L2 while their tiles run; all panels stay in the L3
// Numerics  each element of C is one chain of fma over k = 0 .. K-1, for any thread, tile or block
// Sums      if K takes several blocks, C holds the partial sums. If C is bfloat16, or lacks some columns of the product
//           (cpu/gemm/active_columns.hpp), the workspace holds them, for one band at a time
#pragma once

#include <type_traits>

#include "cpu/gemm/pack.hpp"
#include "cpu/gemm/tile.hpp"
#include "cpu/runtime/caches.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
FD_FN constexpr i64 k_steps_of(i64 K) {
  return divide_up(K, Format<S>::pair);
}

// The elements of K in `depth` k-steps from `k_step` on.
template <class S>
FD_FN Range elements(i64 k_step, i64 depth, i64 K) {
  constexpr i64 pair = Format<S>::pair;
  return {k_step * pair, minimum((k_step + depth) * pair, K)};
}

// Cuts K into blocks of equal depth, a multiple of 16 except for the last block: 1568 k-steps become 2 x 784 and not
// 1024 + 544. A small L2 halves the blocks. Results do not depend on the depth: a block continues the chain of fma.
template <class T>
FD_FN i64 block_depth(i64 k_steps) {
  const i64 max_depth = caches().l2 >= (1 << 20) ? Tiling<T>::KC : Tiling<T>::KC / 2;
  const i64 blocks = divide_up(k_steps, max_depth);
  return blocks <= 1 ? k_steps : minimum(round_up(divide_up(k_steps, blocks), 16), max_depth);
}

// NC: the panels of all threads together take at most half of the L3.
template <class T>
FD_FN i64 block_cols(i64 cols) {
  const i64 bytes_per_column = Tiling<T>::KC * static_cast<i64>(sizeof(T));
  const i64 fitting = caches().l3 / 2 / get_num_threads() / bytes_per_column / kGroup * kGroup;
  return minimum(round_up(cols, kGroup), maximum(512, minimum(fitting, 2048)));
}

// Rows of a band: the workspace holds its partial sums. B is packed once per band, and the sums should stay in the L3.
template <class T>
FD_FN i64 band_rows(i64 width) {
  return maximum(2, (4 << 20) / static_cast<i64>(sizeof(T)) / maximum(width, 1) / Tiling<T>::MC) * Tiling<T>::MC;
}

// How a product is cut. Decided once per call: the number of threads and their parts of C must not change it.
struct BlockSizes {
  i64 k_steps = 0;  // of K
  i64 depth = 0;  // k-steps of a block
  i64 width = 0;  // NC, columns of a block
  i64 band = 0;  // rows of a band
};

template <class S, class T = acc_t<S>>
FD_FN BlockSizes block_sizes_for(i64 cols, i64 K) {
  const i64 k_steps = k_steps_of<S>(K), width = block_cols<T>(cols);
  return {k_steps, block_depth<T>(k_steps), width, band_rows<T>(width)};
}

template <class T>
struct Workspace {
  BlockSizes block_sizes;
  T* a;  // a packed block of A
  T* b;  // packed panels of B
  T* sums;  // partial sums of a band, where the sink does not hold them
};

template <class From, class To>
void copy_tile(const From* src, i64 src_ld, i64 rows, i64 cols, To* dst, i64 dst_ld) {
  for (i64 r = 0; r < rows; ++r) copy_row(src + r * src_ld, cols, dst + r * dst_ld);
}

// Prefetches a tile of C, one tile ahead: the rows of C are pages apart, which is too far for the hardware prefetcher.
template <class S>
FD_FN void prefetch_tile(const S* c, i64 ld, i64 rows, i64 cols) {
  for (i64 r = 0; r < rows; ++r)
    for (i64 n = 0; n < cols; n += 64 / static_cast<i64>(sizeof(S))) __builtin_prefetch(c + r * ld + n, 1, 2);
}

// The partial sums of a strip: element (i, j) of the product is at p[(i - i0)*ld + j - j0].
template <class T>
struct PartialSums {
  T* p;
  i64 ld, i0, j0;
  FD_FN T* at(i64 i, i64 j) const { return p + (i - i0) * ld + (j - j0); }
};

// One strip of C: multiplies the packed block of A by the panels of the strip.
template <Order order, class S, class Sink, class T = acc_t<S>>
void multiply_strip(Range rows, i64 depth, i64 j, i64 cols, const T* a, const T* panels, bool first, bool last,
                    PartialSums<T> partial_sums, Sink& sink) {
  constexpr int MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  alignas(64) T tile[MR * NR];
  for (i64 c = 0; c < cols; c += NR, panels += depth * NR) {
    const i64 n = minimum(NR, cols - c);
    for (i64 i = rows.begin; i < rows.end; i += MR) {
      const i64 m = minimum(MR, rows.end - i);
      const T* a_tile = order == Order::by_rows ? a + (i - rows.begin) * Tiling<T>::LDA : a + (i - rows.begin);
      if (i + m < rows.end && (last || sink.holds_sums()))
        sink.prefetch(i + m, minimum(MR, rows.end - i - m), j + c, n);
      if (!first) copy_tile(partial_sums.at(i, j + c), partial_sums.ld, m, n, tile, NR);
      run_micro_tile<S, order>(static_cast<int>(m), n, depth, a_tile, Tiling<T>::MC, panels, tile, !first);
      if (last)
        sink.epilogue(i, m, j + c, n, tile);
      else
        copy_tile(tile, NR, m, n, partial_sums.at(i, j + c), partial_sums.ld);
    }
  }
}

// One block of K, for one band of rows.
template <Order order, class S, class PackA, class PackB, class Sink, class T = acc_t<S>>
void multiply_band(Range band, Range cols, Range k, i64 k_steps, bool first_columns, PackA& pack_a, PackB& pack_b,
                   PartialSums<T> partial_sums, Sink& sink, Workspace<T> workspace) {
  const i64 depth = k.size();
  const bool last = k.end >= k_steps;
  const bool single = band.size() <= Tiling<T>::MC;  // the only block of rows: each strip is used once, from the L2
  for (i64 ic = band.begin; ic < band.end; ic += Tiling<T>::MC) {
    const Range block{ic, minimum(ic + Tiling<T>::MC, band.end)};
    pack_a(ic, block.size(), k.begin, depth, workspace.a, first_columns);
    for (i64 j = cols.begin; j < cols.end; j += kGroup) {
      const i64 n = minimum(kGroup, cols.end - j);
      T* panels = single ? workspace.b : workspace.b + (j - cols.begin) * depth;
      if (ic == band.begin) pack_b(k.begin, depth, j, n, panels);
      if (last) sink.begin_strip(ic, block.size(), j, n);
      multiply_strip<order, S>(block, depth, j, n, workspace.a, panels, k.begin == 0, last, partial_sums, sink);
    }
  }
}

template <Order order, class S, class PackA, class PackB, class Sink, class T = acc_t<S>>
void gemm_rectangle(Range rows, Range cols, PackA& pack_a, PackB& pack_b, Sink& sink, Workspace<T> workspace) {
  const auto [k_steps, depth, width, band_of_sums] = workspace.block_sizes;
  const i64 max_rows = sink.holds_sums() || depth == k_steps ? rows.size() : band_of_sums;
  for (i64 jc = cols.begin; jc < cols.end; jc += width) {
    const Range columns{jc, minimum(jc + width, cols.end)};
    for (i64 band = rows.begin; band < rows.end; band += max_rows) {
      const Range part{band, minimum(band + max_rows, rows.end)};
      PartialSums<T> partial_sums{workspace.sums, width, band, jc};
      if constexpr (std::is_same_v<S, T>)
        if (sink.holds_sums()) partial_sums = {sink.c(), sink.ld(), 0, 0};
      i64 k = 0;
      do {  // runs once for K = 0: the sums are 0, but the epilogue must run
        const Range block{k, minimum(k + depth, k_steps)};
        multiply_band<order, S>(part, columns, block, k_steps, jc == cols.begin, pack_a, pack_b, partial_sums, sink,
                                workspace);
        k = block.end;
      } while (k < k_steps);
    }
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
