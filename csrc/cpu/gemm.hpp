// gemm: the loops around the register tile, C = A B for one thread's rectangle of C.
//
//   for each NC columns, for each band of rows, for each KC steps of K:
//     for each MC rows of the band:                 pack A
//       for each 32-column strip:                   pack B (for the band's first rows)
//         for each panel, MR rows:                  tile
//
// The operands come from packers, C goes to a sink; k and depth count steps, see format.hpp:
//   pack_a(i, rows, k, depth, dst, first)           first: this block of A has not been packed before
//   pack_b(k, depth, j, cols, dst)                  one strip
//   sink.begin_strip(i, rows, j, cols)              before the tiles of a strip's last block of K
//   sink.finish(i, rows, j, cols, tile)             a finished tile, row stride NR
//   sink.prefetch(i, rows, j, cols)                 asks for the memory that finish will write
//   sink.c(), sink.ld()                             C itself, where sink.holds_sums()
//
// Tiling    a panel and a block of A stay in the L2 while their tiles run, all panels in the L3
// Numerics  each element of C is one chain of fma over k = 0 .. K-1, whatever the thread, tile or block
// Sums      where K takes several blocks, partial sums wait in C; in `sums`, a band at a time, where C is bfloat16 or does
//           not have the product's columns (kept.hpp)
#pragma once

#include <type_traits>

#include "cpu/caches.hpp"
#include "cpu/micro.hpp"
#include "cpu/pack.hpp"
#include "cpu/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
FD_FN constexpr i64 steps_of(i64 K) {
  return divide_up(K, Format<S>::pair);
}

// The elements of K that `depth` steps from `step` on stand for.
template <class S>
FD_FN Range elements(i64 step, i64 depth, i64 K) {
  constexpr i64 pair = Format<S>::pair;
  return {step * pair, minimum((step + depth) * pair, K)};
}

// K in equal blocks, multiples of 16 but the last: 1568 steps become 2 x 784 rather than 1024 + 544.
// A small L2 halves the blocks. Results do not depend on it: the chain of fma goes on where it stopped.
template <class T>
FD_FN i64 block_depth(i64 steps) {
  const i64 most = caches().l2 >= (1 << 20) ? Tiling<T>::KC : Tiling<T>::KC / 2;
  const i64 blocks = divide_up(steps, most);
  return blocks <= 1 ? steps : minimum(round_up(divide_up(steps, blocks), 16), most);
}

// NC: as many columns as leave half of the L3 to others, when every thread packs its own.
template <class T>
FD_FN i64 block_cols(i64 cols) {
  const i64 bytes_a_column = Tiling<T>::KC * static_cast<i64>(sizeof(T));
  const i64 fitting = caches().l3 / 2 / get_num_threads() / bytes_a_column / kGroup * kGroup;
  return minimum(round_up(cols, kGroup), maximum(512, minimum(fitting, 2048)));
}

// Rows whose partial sums wait at a time: B is packed once for each band, and the sums should stay in the L3.
template <class T>
FD_FN i64 band_rows(i64 width) {
  return maximum(2, (4 << 20) / static_cast<i64>(sizeof(T)) / maximum(width, 1) / Tiling<T>::MC) * Tiling<T>::MC;
}

// How a product is cut, decided once a call: what threads find later (their number, their share) must not change it.
struct Blocking {
  i64 steps = 0, depth = 0, width = 0, band = 0;
};

template <class S, class T = sum_of<S>>
FD_FN Blocking blocking_of(i64 cols, i64 K) {
  const i64 steps = steps_of<S>(K), width = block_cols<T>(cols);
  return {steps, block_depth<T>(steps), width, band_rows<T>(width)};
}

template <class T>
struct Buffers {
  Blocking blocking;
  T* a;
  T* b;
  T* sums;
};

template <class From, class To>
void copy_tile(const From* src, i64 src_ld, i64 rows, i64 cols, To* dst, i64 dst_ld) {
  for (i64 r = 0; r < rows; ++r) copy_row(src + r * src_ld, cols, dst + r * dst_ld);
}

// Rows of C lie pages apart: their lines are asked for a whole tile ahead.
template <class S>
FD_FN void prefetch_tile(const S* c, i64 ld, i64 rows, i64 cols) {
  for (i64 r = 0; r < rows; ++r)
    for (i64 n = 0; n < cols; n += 64 / static_cast<i64>(sizeof(S))) __builtin_prefetch(c + r * ld + n, 1, 2);
}

// Where a strip's partial sums wait: element (i, j) of the product at p[(i - i0)*ld + j - j0].
template <class T>
struct Waiting {
  T* p;
  i64 ld, i0, j0;
  FD_FN T* at(i64 i, i64 j) const { return p + (i - i0) * ld + (j - j0); }
};

// One strip of C: its panels against all row tiles of the packed block of A.
template <Order order, class S, class Sink, class T = sum_of<S>>
void multiply_strip(Range rows, i64 depth, i64 j, i64 cols, const T* a, const T* panels, bool first, bool last,
                    Waiting<T> waiting, Sink& sink) {
  constexpr int MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  alignas(64) T tile[MR * NR];
  for (i64 c = 0; c < cols; c += NR, panels += depth * NR) {
    const i64 n = minimum(NR, cols - c);
    for (i64 i = rows.begin; i < rows.end; i += MR) {
      const i64 m = minimum(MR, rows.end - i);
      const T* a_tile = order == Order::by_rows ? a + (i - rows.begin) * Tiling<T>::LDA : a + (i - rows.begin);
      if (i + m < rows.end && (last || sink.holds_sums()))
        sink.prefetch(i + m, minimum(MR, rows.end - i - m), j + c, n);
      if (!first) copy_tile(waiting.at(i, j + c), waiting.ld, m, n, tile, NR);
      run_micro_tile<S, order>(static_cast<int>(m), n, depth, a_tile, Tiling<T>::MC, panels, tile, !first);
      if (last)
        sink.finish(i, m, j + c, n, tile);
      else
        copy_tile(tile, NR, m, n, waiting.at(i, j + c), waiting.ld);
    }
  }
}

// One block of K for one band of rows.
template <Order order, class S, class PackA, class PackB, class Sink, class T = sum_of<S>>
void multiply_band(Range band, Range cols, Range k, i64 steps, bool first_columns, PackA& pack_a, PackB& pack_b,
                   Waiting<T> waiting, Sink& sink, Buffers<T> buffers) {
  const i64 depth = k.size();
  const bool last = k.end >= steps;
  const bool only = band.size() <= Tiling<T>::MC;  // one block of rows uses each strip at once: it stays in the L2
  for (i64 ic = band.begin; ic < band.end; ic += Tiling<T>::MC) {
    const Range block{ic, minimum(ic + Tiling<T>::MC, band.end)};
    pack_a(ic, block.size(), k.begin, depth, buffers.a, first_columns);
    for (i64 j = cols.begin; j < cols.end; j += kGroup) {
      const i64 n = minimum(kGroup, cols.end - j);
      T* panels = only ? buffers.b : buffers.b + (j - cols.begin) * depth;
      if (ic == band.begin) pack_b(k.begin, depth, j, n, panels);
      if (last) sink.begin_strip(ic, block.size(), j, n);
      multiply_strip<order, S>(block, depth, j, n, buffers.a, panels, k.begin == 0, last, waiting, sink);
    }
  }
}

template <Order order, class S, class PackA, class PackB, class Sink, class T = sum_of<S>>
void gemm_rectangle(Range rows, Range cols, PackA& pack_a, PackB& pack_b, Sink& sink, Buffers<T> buffers) {
  const auto [steps, depth, width, band_of_sums] = buffers.blocking;
  const i64 most_rows = sink.holds_sums() || depth == steps ? rows.size() : band_of_sums;
  for (i64 jc = cols.begin; jc < cols.end; jc += width) {
    const Range columns{jc, minimum(jc + width, cols.end)};
    for (i64 band = rows.begin; band < rows.end; band += most_rows) {
      const Range part{band, minimum(band + most_rows, rows.end)};
      Waiting<T> waiting{buffers.sums, width, band, jc};
      if constexpr (std::is_same_v<S, T>)
        if (sink.holds_sums()) waiting = {sink.c(), sink.ld(), 0, 0};
      i64 k = 0;
      do {  // once for K = 0: the sums are empty, the epilogue is not
        const Range block{k, minimum(k + depth, steps)};
        multiply_band<order, S>(part, columns, block, steps, jc == cols.begin, pack_a, pack_b, waiting, sink, buffers);
        k = block.end;
      } while (k < steps);
    }
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
