// tiles: runs the register tile over a part of C, for packed operands. Every product of csrc/cpu runs its tiles here.
//
//   for each panel of B, for each MR rows of A:    tile = sums.begin(at), tile (+)= A B, sums.end(at, tile)
//
// `sums` says where the sums of a tile come from and where they go. sums.begin(at) returns the memory of the tile `at`,
// row stride NR. With sums.resume, this memory holds partial sums.
#pragma once

#include "cpu/gemm/tile.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct PackedOperands {
  i64 depth;  // k-steps
  const T* a;
  i64 lda;  // between k-steps of A that is read by columns; by rows it is Tiling<T>::LDA
  const T* panels;
  i64 panel_stride;  // between the panels of B
};

// Calls visit(at) for each tile of `area`, panel by panel.
template <class T, class Visit>
FD_FN void visit_tiles(const Rect& area, Visit visit) {
  constexpr i64 MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  for (i64 c = 0; c < area.cols; c += NR)
    for (i64 r = 0; r < area.rows; r += MR)
      visit(Rect{area.i + r, minimum(MR, area.rows - r), area.j + c, minimum(NR, area.cols - c)});
}

template <class S, Order order, class Sums, class T = acc_t<S>>
FD_FN void multiply_tiles(const PackedOperands<T>& packed, const Rect& area, Sums sums) {
  visit_tiles<T>(area, [&](const Rect& at) {
    const i64 r = at.i - area.i, panel = (at.j - area.j) / Tiling<T>::NR;
    const T* a = packed.a + (order == Order::by_rows ? r * Tiling<T>::LDA : r);
    T* tile = sums.begin(at);
    run_micro_tile<S, order>(static_cast<int>(at.rows), at.cols,
                             {packed.depth, a, packed.lda, packed.panels + panel * packed.panel_stride}, tile,
                             sums.resume);
    sums.end(at, tile);
  });
}

// Sums that stay in memory as tiles: `height` rows of one panel, then those of the next one.
template <class T>
struct StoredTiles {
  T* tiles;  // the tile of row 0 and column 0
  i64 height;
  bool resume;
  FD_FN T* begin(const Rect& at) const { return tiles + at.j * height + at.i * Tiling<T>::NR; }
  FD_FN void end(const Rect&, const T*) const {}
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
