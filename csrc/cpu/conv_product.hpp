// conv_product: the product of a chunk's patches with a packed matrix, without the multiplications by padding.
//
//   sums[m*ld + j] = sum_k patch(m, k) B(k, j)      for the pixels m of a chunk, by classes of pixels that see the same taps
//
// Work      pixels at an edge take the taps that lie inside the image: of 8x8 pixels under 5x5 taps with padding 2, 28 % less
// Tiling    a few row tiles of A at a time, so that A and a panel share the L2; their sums stay in place, as tiles
// Numerics  one chain of fma over (tap row, tap column, channel); what is left out are zeros: the same bits of finite operands
#pragma once

#include "cpu/conv_classes.hpp"
#include "cpu/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
class ConvProduct {
  static constexpr i64 MR = Tiling<T>::MR, NR = Tiling<T>::NR;
  static constexpr i64 kRows = 8 * MR;  // of A packed at a time
  static constexpr i64 kDepth = 512;  // and columns: A and a panel leave room in an L2 of 512 KB
  static constexpr i64 kShortestRun = 16;  // of columns, for edges to be classes of their own
  static constexpr i64 kFewRows = 2 * MR;  // that a chunk should have of a pixel's class, where pixels have classes

 public:
  ConvProduct() = default;
  ConvProduct(const Window& window, i64 cols) : window_(window), edges_(window, window.channels >= kShortestRun) {
    const i64 area = maximum(window.rows * window.cols, 1);
    chunk_ = edges_.whole() ? kRows * 8 : maximum(kRows * 8, minimum(kFewRows * area, kRows * 128));
    chunk_ = maximum(1, minimum(chunk_, window.pixels()));
    layout_.add((kRows * Tiling<T>::LDA + Vec<T>::W) * i64{sizeof(T)});
    tiles_at_ = layout_.add(kRows * round_up(cols, NR) * i64{sizeof(T)});
    pixels_at_ = layout_.add(chunk_ * i64{sizeof(Pixel<T>)});
  }

  i64 chunk() const { return chunk_; }  // pixels a call takes, at most
  i64 size() const { return layout_.size(); }  // bytes of a thread's memory

  // packed: B in panels, panel p at packed + p*depth*NR. cols begins with a panel.
  void run(const Stage<T>& stage, Range pixels, Range cols, const T* packed, char* memory, T* sums, i64 ld) const {
    Pixel<T>* list = reinterpret_cast<Pixel<T>*>(memory + pixels_at_);
    edges_.visit_classes([&](Taps h, Taps w) {
      const i64 count = collect_pixels(stage, edges_, pixels, h, w, list);
      for (i64 i = 0; i < count; i += kRows)
        multiply(list + i, minimum(kRows, count - i), stage.pitch(), h, w, cols, packed, memory, sums, ld);
    });
  }

 private:
  void multiply(const Pixel<T>* list, i64 rows, i64 pitch, Taps h, Taps w, Range cols, const T* packed, char* memory,
                T* sums, i64 ld) const {
    T *a = reinterpret_cast<T*>(memory), *tiles = reinterpret_cast<T*>(memory + tiles_at_);
    bool first = true;
    visit_runs(h, w, [&](i64 k, i64 depth) {
      for (i64 r = 0; r < rows; ++r) pack_row(list[r].patch, pitch, k, depth, a + r * Tiling<T>::LDA);
      multiply_run(rows, cols, depth, a, packed + k * NR, tiles, !first);
      first = false;
    });
    store(list, rows, cols, first, tiles, sums, ld);
  }

  // Calls visit(column k of the matrix, depth) for pieces of the class's columns: whole rows of taps lie together.
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
      copy_packs(patch + tap * pitch + offset, n, dst + c);
      c += n;
    }
  }

  void multiply_run(i64 rows, Range cols, i64 depth, const T* a, const T* packed, T* tiles, bool resume) const {
    for (i64 j = cols.begin; j < cols.end; j += NR) {
      const T* panel = packed + j * window_.depth();
      T* tile = tiles + (j - cols.begin) * kRows;
      for (i64 r = 0; r < rows; r += MR, tile += MR * NR)
        run_micro_tile<T, Order::by_rows>(static_cast<int>(minimum(MR, rows - r)), minimum(NR, cols.end - j), depth,
                                          a + r * Tiling<T>::LDA, 0, panel, tile, resume);
    }
  }

  void store(const Pixel<T>* list, i64 rows, Range cols, bool empty, const T* tiles, T* sums, i64 ld) const {
    for (i64 j = cols.begin; j < cols.end; j += NR) {
      const T* tile = tiles + (j - cols.begin) * kRows;
      const i64 n = minimum(NR, cols.end - j);
      for (i64 r = 0; r < rows; ++r) {
        T* row = sums + list[r].index * ld + j;
        if (empty)
          std::memset(row, 0, static_cast<std::size_t>(n) * sizeof(T));
        else
          copy_row(tile + r * NR, n, row);
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
