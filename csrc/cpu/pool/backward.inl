// pool_backward: dx of max_pool2d and avg_pool2d from dy
//   dy, positions (max): planes [rows.out, cols.out] | dx: planes [rows.in, cols.in], every element written
// Work      max: one addition per output, at the maximum. Average: kernel height + kernel width additions per output
// Order     max: the additions to an element follow the windows in row-major order; average: first the windows of a row
//           are added, then the rows of windows
// Memory    rows that later windows still add to stay in scratch memory, in the accumulator type, so dx is written once
// Threads   each thread has its own tiles (cpu/pool/tile.hpp), so results do not depend on the number of threads
#pragma once

#include "cpu/pool/tile.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S, class P>
class MaxGradient {
 public:
  using T = acc_t<S>;
  MaxGradient(const PoolBackwardArgs& args, i64 planes, ScratchLayout& layout)
      : args_(args), room_(planes * args.shape.cols.in) {
    const PoolAxis& rows = args.shape.rows;
    sums_at_ = layout.add(rows.kernel * room_ * static_cast<i64>(sizeof(T)));
    const i64 places = kTable ? rows.kernel * args.shape.cols.kernel : rows.kernel;
    place_at_ = layout.add(places * static_cast<i64>(sizeof(i64)));
  }
  void bind(char* memory) {
    sums_ = reinterpret_cast<T*>(memory + sums_at_);
    place_ = reinterpret_cast<i64*>(memory + place_at_);
  }
  void prepare(const Lanes&) { fill(sums_, args_.shape.rows.kernel * room_, T(0)); }

  void add_windows(const Tile& tile, const Lanes& lanes, i64 oh) {
    const Images &dy = args_.dy, &positions = args_.positions;
    set_places(lanes, oh);
    PlaneCursor from(dy, tile), at(positions, tile);
    for (i64 q = 0; q < lanes.segments; ++q, from.next(), at.next())
      add_row(static_cast<const S*>(dy.data) + oh * dy.row + from.at,
              static_cast<const P*>(positions.data) + oh * positions.row + at.at, lanes.pixel,
              sums_ + q * args_.shape.cols.in);
  }

  void write_row(const Tile& tile, const Lanes& lanes, i64 h) {
    const PoolShape& s = args_.shape;
    T* sums = sums_ + h % s.rows.kernel * room_;
    S* dx = static_cast<S*>(args_.dx.data) + h * args_.dx.row;
    PlaneCursor plane(args_.dx, tile);
    for (i64 q = 0; q < lanes.segments; ++q, plane.next())
      copy_pixels(sums + q * s.cols.in, lanes.pixel, dx + plane.at, args_.dx.col, s.cols.in, lanes.pixel);
    fill(sums, lanes.segments * lanes.pixel * s.cols.in, T(0));
  }

 private:
  static constexpr bool kTable = sizeof(P) <= 2;  // place_ is indexed by position; for larger windows by kernel row

  // Sets the places of the sums for the elements of a window whose left edge is column 0. Rows outside the image
  // contain no maximum and are skipped.
  void set_places(const Lanes& lanes, i64 oh) {
    const PoolShape& s = args_.shape;
    for (i64 h = s.rows.begin(oh); h < s.rows.end(oh); ++h) {
      const i64 kernel_row = h - s.rows.top(oh), at = h % s.rows.kernel * room_;
      if (!kTable) place_[kernel_row] = at;
      for (i64 k = 0; kTable && k < s.cols.kernel; ++k) place_[kernel_row * s.cols.kernel + k] = at + k * lanes.pixel;
    }
  }

  FD_FN i64 place(P position, i64 pixel) const {
    if (kTable) return place_[position];
    const i64 width = args_.shape.cols.kernel;
    return place_[position / width] + position % width * pixel;
  }

  // One row of windows of one plane, or one row of pixels with contiguous channels.
  void add_row(const S* dy, const P* positions, i64 pixel, T* sums) const {
    const PoolAxis& cols = args_.shape.cols;
    const i64 dy_col = args_.dy.col, positions_col = args_.positions.col;
    i64 left = -cols.padding * pixel;
    for (i64 ow = 0; ow < cols.out; ++ow, left += cols.stride * pixel, dy += dy_col, positions += positions_col)
      for (i64 c = 0; c < pixel; ++c) sums[left + place(positions[c], pixel) + c] += widen(dy[c]);
  }

  const PoolBackwardArgs& args_;
  i64 room_, sums_at_ = 0, place_at_ = 0;
  T* sums_ = nullptr;
  i64* place_ = nullptr;
};

template <class S>
class MeanGradient {
 public:
  using T = acc_t<S>;
  using V = Vec<T>;
  MeanGradient(const PoolBackwardArgs& args, i64 planes, ScratchLayout& layout)
      : args_(args), room_(Lanes(args.shape, planes, V::W).n), phases_(args.shape, planes, layout) {
    const i64 size = static_cast<i64>(sizeof(T));
    sums_at_ = layout.add(args.shape.rows.kernel * phases_.size() * size);
    share_at_ = layout.add(room_ * size);
    divisor_cols_at_ = layout.add(room_ * size);
  }
  void bind(char* memory) {
    phases_.bind(memory);
    sums_ = reinterpret_cast<T*>(memory + sums_at_);
    share_ = reinterpret_cast<T*>(memory + share_at_);
    divisor_cols_ = reinterpret_cast<T*>(memory + divisor_cols_at_);
  }

  void prepare(const Lanes& lanes) {
    phases_.set_pixel(lanes.pixel);
    fill(sums_, args_.shape.rows.kernel * phases_.size(), T(0));
    fill(share_, room_, T(0));  // lanes beyond the windows of a segment contribute 0
    for_each_window(args_.shape.cols, lanes, [&](i64 i, i64 window) {
      divisor_cols_[i] = static_cast<T>(divisor_size(args_.shape.cols, window, args_.shape.count_padding));
    });
  }

  // First adds the shares of a row of windows along the row, then adds this row to each row that the windows cover.
  void add_windows(const Tile& tile, const Lanes& lanes, i64 oh) {
    const PoolAxis &rows = args_.shape.rows, &cols = args_.shape.cols;
    set_shares(tile, lanes, oh);
    fill(phases_.data, phases_.size(), T(0));
    for (i64 k = cols.kernel; k-- > 0;)
      for (i64 i = 0; i < lanes.n; i += V::W) add(V::load(share_ + i), phases_.data + phases_.taps[k] + i);
    for (i64 h = rows.begin(oh); h < rows.end(oh); ++h) {
      T* sums = sums_ + h % rows.kernel * phases_.size();
      for (i64 i = 0; i < phases_.size(); i += V::W) add(V::load(phases_.data + i), sums + i);
    }
  }

  void write_row(const Tile& tile, const Lanes& lanes, i64 h) {
    const PoolAxis &rows = args_.shape.rows, &cols = args_.shape.cols;
    T* sums = sums_ + h % rows.kernel * phases_.size();
    PlaneCursor plane(args_.dx, tile);
    for (i64 q = 0; q < lanes.segments; ++q, plane.next()) {
      S* dx = static_cast<S*>(args_.dx.data) + h * args_.dx.row + plane.at;
      if (!phases_.covers_all())
        for (i64 w = 0; w < cols.in; ++w) fill(dx + w * args_.dx.col, lanes.pixel, S{});
      phases_.join(sums + q * lanes.length, dx, args_.dx.col);
    }
    fill(sums, phases_.size(), T(0));
  }

 private:
  static FD_FN void add(V v, T* to) { (V::load(to) + v).store(to); }

  void set_shares(const Tile& tile, const Lanes& lanes, i64 oh) {
    const i64 out = args_.shape.cols.out;
    const Images& dy = args_.dy;
    PlaneCursor plane(dy, tile);
    for (i64 q = 0; q < lanes.segments; ++q, plane.next())
      copy_pixels(static_cast<const S*>(dy.data) + oh * dy.row + plane.at, dy.col, share_ + q * lanes.length,
                  lanes.pixel, out, lanes.pixel);
    const V divisor_rows(static_cast<T>(divisor_size(args_.shape.rows, oh, args_.shape.count_padding)));
    for (i64 i = 0; i < lanes.n; i += V::W)
      (V::load(share_ + i) / (divisor_rows * V::load(divisor_cols_ + i))).store(share_ + i);
  }

  const PoolBackwardArgs& args_;
  i64 room_;
  Phases<T> phases_;
  i64 sums_at_ = 0, share_at_ = 0, divisor_cols_at_ = 0;
  T *sums_ = nullptr, *share_ = nullptr, *divisor_cols_ = nullptr;
};

template <class Rows>
void backward_tile(Rows& rows, const PoolBackwardArgs& args, const Tile& tile, const Lanes& lanes) {
  const PoolAxis& axis = args.shape.rows;
  i64 written = 0;  // rows of dx written so far; a row is written when no later window covers it
  for (i64 oh = 0; oh < axis.out; ++oh) {
    for (; written < axis.begin(oh); ++written) rows.write_row(tile, lanes, written);
    rows.add_windows(tile, lanes, oh);
  }
  for (; written < axis.in; ++written) rows.write_row(tile, lanes, written);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
