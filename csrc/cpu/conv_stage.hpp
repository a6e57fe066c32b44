// conv_stage: the part of an image that a range of patches reads, copied once with its channels side by side and with the
// zeros around it. Patches are then rows of plain memory: no patch asks where the image ends.
//
//   [image part 0: padded rows x padded_cols x channels] [image part 1: ...] ...   in the type of the sums
#pragma once

#include <cstring>

#include "cpu/conv_window.hpp"
#include "cpu/gemm.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// dst[r*ld + c] = src(r, c), in the type that arrays store: rows or columns that lie together move in packs.
template <class S>
void relayout(View<S> src, i64 rows, i64 cols, S* dst, i64 ld) {
  if constexpr (std::is_same_v<S, sum_of<S>>) {
    pack_rows(src, rows, cols, dst, ld);
  } else {
    for (i64 r = 0; r < rows; ++r)
      for (i64 c = 0; c < cols; ++c) dst[r * ld + c] = src(r, c);
  }
}

template <class T>
class Stage {
 public:
  explicit Stage(const Window& window) : window_(window) {}

  // Elements that the patches of any `pixels` neighbouring pixels need, and a pack more: they are read in packs.
  static i64 room(const Window& w, i64 pixels) {
    if (w.cols <= 0 || w.rows <= 0) return 0;
    const i64 rows = divide_up(pixels, w.cols) + 1, parts = minimum(divide_up(rows, w.rows) + 1, rows);
    return (rows * w.step_h + parts * w.taps_h) * maximum(w.padded_cols(), 0) * w.channels + 2 * Vec<T>::W;
  }

  // load(b, h, w0, n, dst): n pixels of row h of image b from column w0 on, channels side by side.
  template <class Load>
  void fill(Range pixels, T* memory, Load load) {
    memory_ = memory;
    first_ = pixels.begin / window_.cols;
    T* dst = memory;
    for (i64 row = first_, end = divide_up(pixels.end, window_.cols); row < end;) {
      const i64 b = row / window_.rows, stop = minimum(end, (b + 1) * window_.rows), r = row - b * window_.rows;
      const i64 height = height_of(stop - row);
      for (i64 h = 0; h < height; ++h, dst += pitch()) fill_row(b, r * window_.step_h + window_.top + h, dst, load);
      row = stop;
    }
  }

  // Where the patch of pixel (row, col) begins; row counts the rows of all images. Its taps' rows lie pitch() apart.
  FD_FN const T* patch(i64 row, i64 col) const {
    const i64 b = row / window_.rows, b0 = first_ / window_.rows, r0 = first_ - b0 * window_.rows;
    i64 at = (row - b * window_.rows) * window_.step_h;
    if (b == b0)
      at -= r0 * window_.step_h;
    else
      at += height_of(window_.rows - r0) + (b - b0 - 1) * height_of(window_.rows);
    return memory_ + at * pitch() + col * window_.step_w * window_.channels;
  }
  i64 pitch() const { return window_.padded_cols() * window_.channels; }
  const Window& window() const { return window_; }

 private:
  i64 height_of(i64 rows) const { return (rows - 1) * window_.step_h + window_.taps_h; }

  template <class Load>
  void fill_row(i64 b, i64 h, T* dst, Load load) const {
    const Window& w = window_;
    const bool inside = h >= 0 && h < w.image_rows;
    const i64 begin = inside ? minimum(maximum(-w.left, 0), w.padded_cols()) : w.padded_cols();
    const i64 end = maximum(begin, minimum(w.image_cols - w.left, w.padded_cols()));
    std::memset(dst, 0, static_cast<std::size_t>(begin * w.channels) * sizeof(T));
    if (end > begin) load(b, h, begin + w.left, end - begin, dst + begin * w.channels);
    std::memset(dst + end * w.channels, 0, static_cast<std::size_t>((w.padded_cols() - end) * w.channels) * sizeof(T));
  }

  Window window_;
  T* memory_ = nullptr;
  i64 first_ = 0;  // row
};

// Whole packs: up to W - 1 elements more are read and written than n.
template <class T>
FD_FN void copy_packs(const T* src, i64 n, T* dst) {
  using V = Vec<T>;
  for (i64 c = 0; c < n; c += V::W) V::load(src + c).store(dst + c);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
