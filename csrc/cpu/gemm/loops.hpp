// loops: the loops around the register tile, C = A B for one thread's rectangle of C.
//
//   for each NC columns, for each band of rows, for each KC k-steps:
//     for each MC rows of the band:                 pack A
//       for each 32-column strip:                   pack B (only for the first MC rows of the band)
//         for each panel, for each MR rows:         run the register tile
//
// An operand packs itself, and a sink takes C. k counts k-steps, see cpu/gemm/format.hpp.
//   a.pack(rows, k, dst, first)   packs a block of A; first: this block is packed for the first time
//   b.pack(k, cols, dst)          packs one strip of B
//   sink.epilogue(at, tile)       takes the complete tile of `at`, row stride NR
// A sink derives from TileSink and defines only what differs:
//   sink.begin_strip(strip)       called before the tiles of a strip, in the last block of K
//   sink.prefetch(at)             prefetches the memory that sink.epilogue(at, ...) will write
//   Sink::holds_sums              C itself holds partial sums, at sink.c() with row stride sink.ld()
//
// Tiling    a panel and a block of A stay in the L2 while their tiles run; all panels stay in the L3
// Numerics  each element of C is one chain of fma over k = 0 .. K-1, for any thread, tile or block
// Sums      if K takes several blocks, C holds the partial sums. If C is bfloat16, or lacks some columns of the product
//           (cpu/gemm/active_columns.hpp), the workspace holds them, for one band at a time
#pragma once

#include <type_traits>

#include "cpu/gemm/pack.hpp"
#include "cpu/gemm/tiles.hpp"
#include "cpu/runtime/caches.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
FD_FN constexpr i64 k_steps_of(i64 K) {
  return divide_up(K, Format<S>::pair);
}

// The elements of K in some k-steps.
template <class S>
FD_FN Range elements(Range k_steps, i64 K) {
  constexpr i64 pair = Format<S>::pair;
  return {k_steps.begin * pair, minimum(k_steps.end * pair, K)};
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

// Copies one row of a tile. The length of whole rows is a constant, because GCC makes a slow `rep movs` of a copy whose
// length it knows to be small, but not exactly.
template <class From, class To>
FD_FN void copy_tile_row(const From* src, i64 cols, To* dst) {
  constexpr i64 NR = Tiling<acc_t<From>>::NR;
  cols == NR ? copy_row(src, NR, dst) : copy_row(src, cols, dst);
}

template <class From, class To>
void copy_tile(const From* src, i64 src_ld, i64 rows, i64 cols, To* dst, i64 dst_ld) {
  for (i64 r = 0; r < rows; ++r) copy_tile_row(src + r * src_ld, cols, dst + r * dst_ld);
}

// Prefetches a tile of C, one tile ahead: the rows of C are pages apart, which is too far for the hardware prefetcher.
template <class S>
FD_FN void prefetch_tile(const S* c, i64 ld, i64 rows, i64 cols) {
  for (i64 r = 0; r < rows; ++r)
    for (i64 n = 0; n < cols; n += 64 / static_cast<i64>(sizeof(S))) __builtin_prefetch(c + r * ld + n, 1, 2);
}

// The partial sums of a band: element (i, j) of the product is at p[(i - i0)*ld + j - j0].
template <class T>
struct PartialSums {
  T* p;
  i64 ld, i0, j0;
  FD_FN T* at(i64 i, i64 j) const { return p + (i - i0) * ld + (j - j0); }
};

// What a sink does where it defines nothing else.
struct TileSink {
  static constexpr bool holds_sums = false;
  FD_FN void begin_strip(const Rect&) const {}
  FD_FN void prefetch(const Rect&) const {}
};

// The sums of one strip and one block of K, see cpu/gemm/tiles.hpp. `tile` is the memory of one tile.
template <class Sink, class T>
struct StripSums {
  Sink& sink;
  PartialSums<T> partial_sums;
  T* tile;
  i64 end_row;  // of the strip
  bool resume, last;

  FD_FN T* begin(const Rect& at) const {
    const i64 next = at.i + at.rows;
    if (next < end_row && (last || Sink::holds_sums))
      sink.prefetch({next, minimum(Tiling<T>::MR, end_row - next), at.j, at.cols});
    if (resume) copy_tile(partial_sums.at(at.i, at.j), partial_sums.ld, at.rows, at.cols, tile, i64{Tiling<T>::NR});
    return tile;
  }
  FD_FN void end(const Rect& at, T*) const {
    if (last)
      sink.epilogue(at, tile);
    else
      copy_tile(tile, i64{Tiling<T>::NR}, at.rows, at.cols, partial_sums.at(at.i, at.j), partial_sums.ld);
  }
};

// The loops of one thread.
template <Order order, class S, class A, class B, class Sink>
class ThreadProduct {
 public:
  using T = acc_t<S>;
  ThreadProduct(const A& a, const B& b, Sink& sink, const Workspace<T>& workspace)
      : a_(a), b_(b), sink_(sink), workspace_(workspace) {}

  void run(Range rows, Range cols) {
    const auto [k_steps, depth, width, band_of_sums] = workspace_.block_sizes;
    const i64 max_rows = Sink::holds_sums || depth == k_steps ? rows.size() : band_of_sums;
    for (i64 jc = cols.begin; jc < cols.end; jc += width) {
      const Range columns{jc, minimum(jc + width, cols.end)};
      for (i64 band = rows.begin; band < rows.end; band += max_rows) {
        PartialSums<T> partial_sums{workspace_.sums, width, band, jc};
        if constexpr (Sink::holds_sums) partial_sums = {sink_.c(), sink_.ld(), 0, 0};
        i64 k = 0;
        do {  // runs once for K = 0: the sums are 0, but the epilogue must run
          const Range block{k, minimum(k + depth, k_steps)};
          run_band({band, minimum(band + max_rows, rows.end)}, columns, block, jc == cols.begin, partial_sums);
          k = block.end;
        } while (k < k_steps);
      }
    }
  }

 private:
  // One block of K, for one band of rows.
  void run_band(Range band, Range cols, Range k, bool first_columns, PartialSums<T> partial_sums) {
    const i64 depth = k.size();
    const bool last = k.end >= workspace_.block_sizes.k_steps;
    const bool single = band.size() <= Tiling<T>::MC;  // the only block of rows: each strip is used once, from the L2
    for (i64 ic = band.begin; ic < band.end; ic += Tiling<T>::MC) {
      const Range block{ic, minimum(ic + Tiling<T>::MC, band.end)};
      a_.pack(block, k, workspace_.a, first_columns);
      for (i64 j = cols.begin; j < cols.end; j += kGroup) {
        const Rect strip{ic, block.size(), j, minimum(kGroup, cols.end - j)};
        T* panels = single ? workspace_.b : workspace_.b + (j - cols.begin) * depth;
        if (ic == band.begin) b_.pack(k, {j, j + strip.cols}, panels);
        if (last) sink_.begin_strip(strip);
        alignas(64) T tile[Tiling<T>::MR * Tiling<T>::NR];
        const StripSums<Sink, T> sums{sink_, partial_sums, tile, block.end, k.begin != 0, last};
        multiply_tiles<S, order>({depth, workspace_.a, Tiling<T>::MC, panels, depth * Tiling<T>::NR}, strip, sums);
      }
    }
  }

  const A& a_;
  const B& b_;
  Sink& sink_;
  const Workspace<T> workspace_;
};

// C = A B for the rows and columns of one thread.
template <Order order, class S, class A, class B, class Sink>
void multiply(Range rows, Range cols, const A& a, const B& b, Sink& sink, const Workspace<acc_t<S>>& workspace) {
  ThreadProduct<order, S, A, B, Sink>(a, b, sink, workspace).run(rows, cols);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
