// product: the product of the patches of a chunk with a packed matrix. Skips the multiplications by padding.
//
//   sums[m*ld + j] = sum_k patch(m, k) B(k, j)      for the pixels m of a chunk, one class of pixels after another
//
// Work      pixels at an edge use only the taps inside the image: 28 % less for 8x8 pixels, 5x5 taps and padding 2
// Tiling    a few row tiles of A at a time, so that A and a panel share the L2; their sums stay in memory as tiles
// Numerics  one chain of fma over (tap row, tap column, channel); only products with 0 are skipped, so finite operands
//           give the same bits
#pragma once

#include "cpu/conv2d/window_classes.hpp"
#include "cpu/runtime/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
class Conv2dProduct {
  static constexpr i64 MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  static constexpr i64 kRows = 8 * MR;  // rows of a packed A
  static constexpr i64 kDepth = 512;  // columns of a packed A: A and a panel do not fill an L2 of 512 KB
  static constexpr i64 kShortestRun = 16;  // channels that make separate classes for edge pixels worthwhile
  static constexpr i64 kFewRows = 2 * MR;  // pixels that a chunk should have in each class

 public:
  Conv2dProduct() = default;
  Conv2dProduct(const Window& window, i64 cols) : window_(window), edges_(window, window.channels >= kShortestRun) {
    const i64 area = maximum(window.rows * window.cols, 1);
    chunk_ = edges_.whole() ? kRows * 8 : maximum(kRows * 8, minimum(kFewRows * area, kRows * 128));
    chunk_ = maximum(1, minimum(chunk_, window.pixels()));
    layout_.add((kRows * Tiling<T>::LDA + Vec<T>::W) * i64{sizeof(T)});
    tiles_at_ = layout_.add(kRows * round_up(cols, NR) * i64{sizeof(T)});
    pixels_at_ = layout_.add(chunk_ * i64{sizeof(Pixel<T>)});
  }

  i64 chunk() const { return chunk_; }  // most pixels of one call of run()
  i64 size() const { return layout_.size(); }  // bytes of memory per thread

  // packed is B in panels: panel p starts at packed + p*depth*NR. cols.begin is the beginning of a panel.
  void run(const Stage<T>& stage, Range pixels, Range cols, const T* packed, char* memory, RowMajor<T> sums) const {
    Pixel<T>* list = reinterpret_cast<Pixel<T>*>(memory + pixels_at_);
    edges_.visit_classes([&](Taps h, Taps w) {
      const i64 count = collect_pixels(stage, edges_, pixels, h, w, list);
      for (i64 i = 0; i < count; i += kRows)
        multiply({list + i, minimum(kRows, count - i), stage.pitch(), h, w}, cols, packed, memory, sums);
    });
  }

 private:
  // Like store(), not inlined into the loops over classes: its counters would then be in memory.
  FD_ONE_COPY void multiply(const ClassPixels<T>& pixels, Range cols, const T* packed, char* memory,
                            RowMajor<T> sums) const {
    T *a = reinterpret_cast<T*>(memory), *tiles = reinterpret_cast<T*>(memory + tiles_at_);
    const T* panels = packed + cols.begin * window_.depth();
    bool first = true;
    visit_runs(pixels.h, pixels.w, [&](i64 k, i64 depth) {
      for (i64 r = 0; r < pixels.count; ++r)
        pack_row(pixels.list[r].patch, pixels.pitch, k, depth, a + r * Tiling<T>::LDA);
      multiply_tiles<T, Order::by_rows>({depth, a, 0, panels + k * NR, window_.depth() * NR},
                                        {0, pixels.count, 0, cols.size()}, StoredTiles<T>{tiles, kRows, !first});
      first = false;
    });
    store(pixels, cols, first ? nullptr : tiles, sums);
  }

  // Calls visit(k, depth) for pieces of the columns of a class, from column k of the matrix on. Whole rows of taps are
  // contiguous columns.
  template <class Visit>
  void visit_runs(Taps h, Taps w, Visit visit) const {
    const i64 run = window_.tap_row(), width = (w.end - w.begin) * window_.channels;
    const bool together = width == run;
    const i64 end = width == 0 ? h.begin : together ? h.begin + 1 : h.end;
    for (i64 t = h.begin; t < end; ++t) {
      const i64 begin = t * run + w.begin * window_.channels, size = together ? (h.end - h.begin) * run : width;
      const i64 pieces = divide_up(size, kDepth), piece = pieces == 0 ? 1 : round_up(divide_up(size, pieces), 16);
      for (i64 k = 0; k < size; k += piece) visit(begin + k, minimum(piece, size - k));
    }
  }

  void pack_row(const T* patch, i64 pitch, i64 k, i64 depth, T* dst) const {
    const i64 run = window_.tap_row();
    for (i64 c = 0, tap = k / run, offset = k % run; c < depth; ++tap, offset = 0) {
      const i64 n = minimum(run - offset, depth - c);
      copy_vectors(patch + tap * pitch + offset, n, dst + c);
      c += n;
    }
  }

  // Copies the tiles to `sums`. They are null where no tap lies inside the image.
  FD_ONE_COPY void store(const ClassPixels<T>& pixels, Range cols, const T* tiles, RowMajor<T> sums) const {
    for (i64 j = 0; j < cols.size(); j += NR) {
      const i64 n = minimum(NR, cols.size() - j);
      for (i64 r = 0; r < pixels.count; ++r) {
        T* row = sums.p + pixels.list[r].index * sums.ld + cols.begin + j;
        if (tiles == nullptr)
          std::memset(row, 0, static_cast<std::size_t>(n) * sizeof(T));
        else
          copy_row(tiles + j * kRows + r * NR, n, row);
      }
    }
  }

  Window window_;
  Edges edges_;
  i64 chunk_ = 1;
  ScratchLayout layout_;
  i64 tiles_at_ = 0, pixels_at_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
