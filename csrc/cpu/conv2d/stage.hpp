// stage: a copy of the rows of images that a chunk of patches reads, with contiguous channels and with the padding. If
// the patches are in one row, only their columns are copied. Patches are then rows of memory and need no test for the
// borders of the image.
//
//   [image part 0: padded rows x width x channels] [image part 1: ...] ...   in the accumulator type
#pragma once

#include <cstring>

#include "cpu/conv2d/window.hpp"
#include "cpu/gemm/loops.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct RowMajor {  // a matrix in memory
  T* p;
  i64 ld;
};

// dst[r*ld + c] = src(r, c), without a change of type. Contiguous float32 and float64 move as vectors.
template <class S>
void relayout(View<S> src, i64 rows, i64 cols, S* dst, i64 ld) {
  if constexpr (std::is_same_v<S, acc_t<S>>) {
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

  // Number of elements for the patches of a chunk, and two vectors more, because patches are read as whole vectors.
  static i64 room(const Window& w, i64 pixels) {
    if (w.cols <= 0 || w.rows <= 0) return 0;
    const i64 slack = 2 * Vec<T>::W;
    if (pixels <= w.cols) return w.taps_h * width_of(w, pixels) * w.channels + slack;
    const i64 rows = minimum(divide_up(pixels, w.cols) + 1, w.images * w.rows);
    const i64 parts = minimum(divide_up(rows, w.rows) + 1, rows);
    return ((rows - 1) * w.stride_h + parts * w.taps_h) * width_of(w, w.cols) * w.channels + slack;
  }

  // load(b, h, w0, n, dst) copies n pixels of row h of image b, from column w0 on, to contiguous channels.
  template <class Load>
  void fill(Range pixels, T* memory, Load load) {
    memory_ = memory;
    first_ = pixels.begin / window_.cols;
    const i64 end = divide_up(pixels.end, window_.cols);
    const bool piece = end - first_ == 1;  // a piece of one row: only its columns are copied
    col_ = piece ? pixels.begin - first_ * window_.cols : 0;
    width_ = width_of(window_, piece ? pixels.size() : window_.cols);
    T* dst = memory;
    for (i64 row = first_; row < end;) {
      const i64 b = row / window_.rows, stop = minimum(end, (b + 1) * window_.rows), r = row - b * window_.rows;
      const i64 height = height_of(stop - row);
      for (i64 h = 0; h < height; ++h, dst += pitch()) fill_row(b, r * window_.stride_h + window_.top + h, dst, load);
      row = stop;
    }
  }

  // The beginning of the patch of pixel (row, col); `row` counts the rows of all images. Tap rows are pitch() apart.
  FD_FN const T* patch(i64 row, i64 col) const {
    const i64 b = row / window_.rows, b0 = first_ / window_.rows, r0 = first_ - b0 * window_.rows;
    i64 at = (row - b * window_.rows) * window_.stride_h;
    if (b == b0)
      at -= r0 * window_.stride_h;
    else
      at += height_of(window_.rows - r0) + (b - b0 - 1) * height_of(window_.rows);
    return memory_ + at * pitch() + (col - col_) * window_.stride_w * window_.channels;
  }
  i64 pitch() const { return width_ * window_.channels; }
  const Window& window() const { return window_; }

 private:
  static i64 width_of(const Window& w, i64 cols) { return (cols - 1) * w.stride_w + w.taps_w; }
  i64 height_of(i64 rows) const { return (rows - 1) * window_.stride_h + window_.taps_h; }

  template <class Load>
  void fill_row(i64 b, i64 h, T* dst, Load load) const {
    const Window& w = window_;
    const i64 left = w.left + col_ * w.stride_w;
    const bool inside = h >= 0 && h < w.image_rows;
    const i64 begin = inside ? minimum(maximum(-left, 0), width_) : width_;
    const i64 end = maximum(begin, minimum(w.image_cols - left, width_));
    std::memset(dst, 0, static_cast<std::size_t>(begin * w.channels) * sizeof(T));
    if (end > begin) load(b, h, begin + left, end - begin, dst + begin * w.channels);
    std::memset(dst + end * w.channels, 0, static_cast<std::size_t>((width_ - end) * w.channels) * sizeof(T));
  }

  Window window_;
  T* memory_ = nullptr;
  i64 first_ = 0, col_ = 0, width_ = 0;  // first row and first column of patches; columns of the copy
};

// Calls visit(pixels) for the chunks of a range. A chunk that is shorter than a row does not cross the end of a row, so
// that only its own columns are staged.
template <class Visit>
FD_FN void visit_chunks(const Window& window, Range pixels, i64 chunk, Visit visit) {
  for (i64 m = pixels.begin, end; m < pixels.end; m = end) {
    end = minimum(m + chunk, pixels.end);
    if (chunk <= window.cols) end = minimum(end, (m / window.cols + 1) * window.cols);
    visit(Range{m, end});
  }
}

// Copies whole vectors: reads and writes up to W - 1 elements more than n.
template <class T>
FD_FN void copy_vectors(const T* src, i64 n, T* dst) {
  using V = Vec<T>;
  for (i64 c = 0; c < n; c += V::W) V::load(src + c).store(dst + c);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
