// weight_product: sums[n, k] = sum_m dz(m, n) patch(m, k) over the pixels m, one chunk at a time. Skips the
// multiplications by padding: it multiplies the pixels of one class together, for the columns k of the taps that lie
// inside the image.
//
// Tiling    the rows of dz of a class are packed as A, patches as one panel of B at a time; sums stay as tiles
// Numerics  one chain of fma; chunks and classes depend only on the sizes, so any number of threads gives the same bits
#pragma once

#include "cpu/conv2d/window_classes.hpp"
#include "cpu/runtime/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
class Conv2dWeightProduct {
  static constexpr i64 MR = Tiling<T>::MR, NR = Tiling<T>::NR, MC = Tiling<T>::MC;
  static constexpr i64 kDepth = 512;  // pixels packed at a time
  static constexpr i64 kChunk = 4096;  // pixels of a chunk, which are sorted into classes

 public:
  Conv2dWeightProduct() = default;
  // The columns of a class must be whole panels, so there are classes only if the channels of a tap are whole panels.
  Conv2dWeightProduct(const Window& window, i64 rows, i64 cols)
      : window_(window), edges_(window, window.channels % kGroup == 0), rows_(rows), cols_(cols) {
    layout_.add(kDepth * MC * i64{sizeof(T)});
    panel_at_ = layout_.add((kDepth * NR + Vec<T>::W) * i64{sizeof(T)});
    tiles_at_ = layout_.add(round_up(rows, MR) * round_up(cols, NR) * i64{sizeof(T)});
    pixels_at_ = layout_.add(chunk() * i64{sizeof(Pixel<T>)});
  }

  i64 chunk() const { return edges_.whole() ? kDepth : kChunk; }
  i64 size() const { return layout_.size(); }

  void clear(char* memory) const {
    std::memset(memory + tiles_at_, 0, static_cast<std::size_t>(round_up(rows_, MR) * round_up(cols_, NR)) * sizeof(T));
  }

  // Adds the products of a chunk. dz(pixel, row) is dz.p[pixel*dz.ld + row]. `cols` are columns of the patches;
  // cols.begin is the beginning of a panel.
  void add(const Stage<T>& stage, Range pixels, RowMajor<const T> dz, i64 rows, Range cols, char* memory) const {
    Pixel<T>* list = reinterpret_cast<Pixel<T>*>(memory + pixels_at_);
    edges_.visit_classes([&](Taps h, Taps w) {
      const i64 count = collect_pixels(stage, edges_, pixels, h, w, list);
      for (i64 m = 0; m < count; m += kDepth)
        for (i64 n = 0; n < rows; n += MC)
          multiply({list + m, minimum(kDepth, count - m), stage.pitch(), h, w}, dz, {n, minimum(n + MC, rows)}, cols,
                   memory);
    });
  }

  // Copies the tiles to sums[n*ld + k], for the rows and columns of the thread.
  template <class S>
  void store(i64 rows, i64 cols, char* memory, S* sums, i64 ld) const {
    for (i64 k = 0; k < cols; k += NR)
      for (i64 n = 0; n < rows; ++n)
        copy_row(tiles(memory).begin({n, 1, k, NR}), minimum(NR, cols - k), sums + n * ld + k);
  }

 private:
  StoredTiles<T> tiles(char* memory) const {
    return {reinterpret_cast<T*>(memory + tiles_at_), round_up(rows_, MR), true};
  }

  // Like pack_panel(), not inlined into the loops over classes: its counters would then be in memory.
  FD_ONE_COPY void multiply(const ClassPixels<T>& pixels, RowMajor<const T> dz, Range rows, Range cols,
                            char* memory) const {
    T *a = reinterpret_cast<T*>(memory), *panel = reinterpret_cast<T*>(memory + panel_at_);
    const Taps h = pixels.h, w = pixels.w;
    const i64 lda = round_up(rows.size(), Vec<T>::W), run = window_.tap_row();
    for (i64 m = 0; m < pixels.count; ++m)
      copy_row(dz.p + pixels.list[m].index * dz.ld + rows.begin, rows.size(), a + m * lda);
    for (i64 t = h.begin; t < (edges_.whole() ? h.begin + 1 : h.end); ++t) {
      const i64 begin = edges_.whole() ? 0 : t * run + w.begin * window_.channels;
      const i64 end = edges_.whole() ? window_.depth() : begin + (w.end - w.begin) * window_.channels;
      for (i64 k = maximum(begin, cols.begin); k < minimum(end, cols.end); k += NR) {
        const i64 width = minimum(NR, minimum(end, cols.end) - k);
        pack_panel(pixels, k, width, panel);
        multiply_tiles<T, Order::by_cols>({pixels.count, a, lda, panel, 0},
                                          {rows.begin, rows.size(), k - cols.begin, width}, tiles(memory));
      }
    }
  }

  // panel[m*NR + c] = patch(m, k + c), c < width. Whole vectors are stored: they may overwrite the beginning of the
  // next row of the panel, which is written later.
  FD_ONE_COPY void pack_panel(const ClassPixels<T>& patches, i64 k, i64 width, T* panel) const {
    const Pixel<T>* list = patches.list;
    const i64 depth = patches.count, pitch = patches.pitch;
    const i64 run = window_.tap_row();
    struct Piece {
      i64 from, to, n;
    } pieces[NR];
    i64 count = 0;
    for (i64 c = 0, tap = k / run, offset = k % run; c < width; ++tap, offset = 0) {
      const i64 n = minimum(run - offset, width - c);
      pieces[count++] = {tap * pitch + offset, c, n};
      c += n;
    }
    if (count == 1 && width == NR) {
      for (i64 m = 0; m < depth; ++m) copy_vectors(list[m].patch + pieces[0].from, NR, panel + m * NR);
      return;
    }
    for (i64 m = 0; m < depth; ++m)
      for (i64 i = 0; i < count; ++i)
        copy_vectors(list[m].patch + pieces[i].from, pieces[i].n, panel + m * NR + pieces[i].to);
  }

  Window window_;
  Edges edges_;
  i64 rows_ = 0, cols_ = 0;
  ScratchLayout layout_;
  i64 panel_at_ = 0, tiles_at_ = 0, pixels_at_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
