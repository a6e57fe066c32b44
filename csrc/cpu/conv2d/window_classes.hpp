// window_classes: classes of pixels that use the same taps inside the image, so that padding costs no multiplications.
#pragma once

#include "cpu/conv2d/stage.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The taps of one axis that lie inside the image, for one position of the window.
struct Taps {
  i64 begin, end;
  bool operator==(const Taps& other) const { return begin == other.begin && end == other.end; }
  bool operator!=(const Taps& other) const { return !(*this == other); }
};

FD_FN Taps taps_inside(i64 position, i64 stride, i64 start, i64 taps, i64 size) {
  const i64 first = position * stride + start, begin = minimum(maximum(0, -first), taps);
  return {begin, maximum(begin, minimum(taps, size - first))};
}

// Pixels at an edge use fewer taps. Pixels with the same taps are a class. If classes would save less than 10 % of the
// work, all pixels are one class that uses all taps.
class Edges {
 public:
  Edges() = default;
  Edges(const Window& window, bool allowed) : w_(window) {
    i64 rows = 0, cols = 0;
    for (i64 r = 0; r < w_.rows; ++r) rows += size_of(of_row(r));
    for (i64 c = 0; c < w_.cols; ++c) cols += size_of(of_col(c));
    const i64 all = w_.rows * w_.taps_h * w_.cols * w_.taps_w;
    whole_ = !allowed || 10 * rows * cols > 9 * all;
  }
  bool whole() const { return whole_; }
  Taps row(i64 r) const { return whole_ ? Taps{0, w_.taps_h} : of_row(r); }
  Taps col(i64 c) const { return whole_ ? Taps{0, w_.taps_w} : of_col(c); }

  // Calls visit(h, w) for each class, from the first corner of the image to the last.
  template <class Visit>
  void visit_classes(Visit visit) const {
    for (i64 r = 0; r < w_.rows; ++r)
      for (i64 c = 0; c < w_.cols && (r == 0 || row(r - 1) != row(r)); ++c)
        if (c == 0 || col(c - 1) != col(c)) visit(row(r), col(c));
  }

 private:
  static i64 size_of(Taps taps) { return taps.end - taps.begin; }
  Taps of_row(i64 r) const { return taps_inside(r, w_.stride_h, w_.top, w_.taps_h, w_.image_rows); }
  Taps of_col(i64 c) const { return taps_inside(c, w_.stride_w, w_.left, w_.taps_w, w_.image_cols); }
  Window w_;
  bool whole_ = true;
};

template <class T>
struct Pixel {
  const T* patch;
  i64 index;  // in the chunk
};

// Some pixels of one class: they all use the taps (h, w). Tap rows of a patch are `pitch` elements apart.
template <class T>
struct ClassPixels {
  const Pixel<T>* list;
  i64 count, pitch;
  Taps h, w;
};

// Lists the pixels of one class in a chunk, in order. Returns their number.
template <class T>
i64 collect_pixels(const Stage<T>& stage, const Edges& edges, Range pixels, Taps h, Taps w, Pixel<T>* list) {
  const Window& window = stage.window();
  i64 count = 0;
  for (i64 m = pixels.begin; m < pixels.end;) {
    const i64 row = m / window.cols, stop = minimum(pixels.end, (row + 1) * window.cols);
    const bool in_class = edges.row(row % window.rows) == h;
    const i64 first = m - row * window.cols;
    const T* patch = in_class ? stage.patch(row, first) : nullptr;
    for (; in_class && m < stop; ++m) {
      const i64 col = m - row * window.cols;
      if (edges.col(col) != w) continue;
      list[count++] = {patch + (col - first) * window.stride_w * window.channels, m - pixels.begin};
    }
    m = stop;
  }
  return count;
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
