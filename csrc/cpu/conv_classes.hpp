// conv_classes: pixels of a window by the taps they see inside the image, so that padding costs no multiplications.
#pragma once

#include "cpu/conv_stage.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Which taps of one axis lie inside the image, at one place of the window.
struct Taps {
  i64 begin, end;
  bool operator==(const Taps& other) const { return begin == other.begin && end == other.end; }
  bool operator!=(const Taps& other) const { return !(*this == other); }
};

FD_FN Taps taps_inside(i64 place, i64 step, i64 start, i64 taps, i64 size) {
  const i64 first = place * step + start, begin = minimum(maximum(0, -first), taps);
  return {begin, maximum(begin, minimum(taps, size - first))};
}

// Pixels at an edge see fewer taps. Those that see the same ones are a class; all pixels are one where edges are few.
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

  // Calls visit(h, w) for each class, from the image's first corner to its last.
  template <class Visit>
  void visit_classes(Visit visit) const {
    for (i64 r = 0; r < w_.rows; ++r)
      for (i64 c = 0; c < w_.cols && (r == 0 || row(r - 1) != row(r)); ++c)
        if (c == 0 || col(c - 1) != col(c)) visit(row(r), col(c));
  }

 private:
  static i64 size_of(Taps taps) { return taps.end - taps.begin; }
  Taps of_row(i64 r) const { return taps_inside(r, w_.step_h, w_.top, w_.taps_h, w_.image_rows); }
  Taps of_col(i64 c) const { return taps_inside(c, w_.step_w, w_.left, w_.taps_w, w_.image_cols); }
  Window w_;
  bool whole_ = true;
};

template <class T>
struct Pixel {
  const T* patch;
  i64 index;  // in the chunk
};

// A chunk's pixels of one class, in order; returns their number.
template <class T>
i64 collect_pixels(const Stage<T>& stage, const Edges& edges, Range pixels, Taps h, Taps w, Pixel<T>* list) {
  const Window& window = stage.window();
  i64 count = 0;
  for (i64 m = pixels.begin; m < pixels.end;) {
    const i64 row = m / window.cols, stop = minimum(pixels.end, (row + 1) * window.cols);
    const bool ours = edges.row(row % window.rows) == h;
    const i64 first = m - row * window.cols;
    const T* patch = ours ? stage.patch(row, first) : nullptr;
    for (; ours && m < stop; ++m) {
      const i64 col = m - row * window.cols;
      if (edges.col(col) != w) continue;
      list[count++] = {patch + (col - first) * window.step_w * window.channels, m - pixels.begin};
    }
    m = stop;
  }
  return count;
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
