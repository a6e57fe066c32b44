// pool_forward: y = the maximum, or the mean, of each window of an image
//   x: images x channels planes [rows.in, cols.in], any strides | y: planes [rows.out, cols.out] | positions (max) as y
// Work      separable: each row of x is reduced once along its windows, although rows of windows overlap; so an output
//           costs kernel height + kernel width operations and not their product. Reads x once, writes y and positions
//           once. Lanes are columns of windows, or channels if the channels are the last axis
// Order     maximum: the first maximum in row-major order wins, a NaN wins over numbers, and the last NaN wins over the
//           others; reducing along rows first and then over rows gives the same result. Mean: sums along rows, then the
//           sums of the rows from top to bottom
// Threads   each thread has its own tiles (cpu/pool/tile.hpp), so results do not depend on the number of threads
// Limits    no read past an image; memory only from cpu/runtime/scratch.hpp; re-entrant
#pragma once

#include <cmath>

#include "cpu/pool/tile.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Shared by both kinds of pooling: a ring buffer of `kernel height` reduced rows, the phases of a row of x, and the
// result row.
template <class S>
class ForwardRows {
 public:
  using Stored = S;
  using T = acc_t<S>;
  using V = Vec<T>;
  ForwardRows() = default;
  ForwardRows(const PoolShape& s, i64 planes, ScratchLayout& layout)
      : shape_(s), room_(Lanes(s, planes, V::W).n), phases_(s, planes, layout) {
    ring_at_ = layout.add(s.rows.kernel * room_ * static_cast<i64>(sizeof(T)));
    result_at_ = layout.add(room_ * static_cast<i64>(sizeof(T)));
  }
  void bind(char* memory) {
    phases_.bind(memory);
    ring_ = reinterpret_cast<T*>(memory + ring_at_);
    result_ = reinterpret_cast<T*>(memory + result_at_);
  }

  FD_FN void split(const Images& x, const Tile& tile, const Lanes& lanes, i64 h) {
    const S* row = static_cast<const S*>(x.data) + h * x.row;
    PlaneCursor plane(x, tile);
    for (i64 q = 0; q < lanes.segments; ++q, plane.next()) phases_.split(row + plane.at, x.col, q * lanes.length);
  }

  template <class To, class From>
  FD_FN void store(const From* row, const Images& y, const Tile& tile, const Lanes& lanes, i64 oh) const {
    To* to = static_cast<To*>(y.data) + oh * y.row;
    PlaneCursor plane(y, tile);
    for (i64 q = 0; q < lanes.segments; ++q, plane.next())
      copy_pixels(row + q * lanes.length, lanes.pixel, to + plane.at, y.col, shape_.cols.out, lanes.pixel);
  }

 protected:
  PoolShape shape_{};
  i64 room_ = 0;
  Phases<T> phases_;
  T *ring_ = nullptr, *result_ = nullptr;

 private:
  i64 ring_at_ = 0, result_at_ = 0;
};

template <class S, class P>
class MaxRows : public ForwardRows<S> {
 public:
  using Base = ForwardRows<S>;
  using typename Base::T, typename Base::V;
  using I = Ints<T>;
  MaxRows(const PoolForwardArgs& args, i64 planes, ScratchLayout& layout)
      : Base(args.shape, planes, layout), y_(args.y), positions_(args.positions) {
    const i64 lane = static_cast<i64>(sizeof(Lane<T>));
    kernel_col_at_ = layout.add(args.shape.rows.kernel * this->room_ * lane);
    position_at_ = layout.add(this->room_ * lane);
    first_at_ = layout.add(this->room_ * lane);
  }
  void bind(char* memory) {
    Base::bind(memory);
    kernel_col_ = reinterpret_cast<Lane<T>*>(memory + kernel_col_at_);
    position_ = reinterpret_cast<Lane<T>*>(memory + position_at_);
    first_ = reinterpret_cast<Lane<T>*>(memory + first_at_);
  }

  // Minus infinity in the padding never wins. In a window that contains only minus infinity, the first element inside
  // the image wins.
  void prepare(const Lanes& lanes) {
    this->phases_.set_pixel(lanes.pixel);
    fill(this->phases_.data, this->phases_.size(), static_cast<T>(-INFINITY));
    const PoolAxis& cols = this->shape_.cols;
    for_each_window(cols, lanes, [&](i64 i, i64 window) {
      first_[i] = static_cast<Lane<T>>(cols.begin(window) - cols.top(window));
    });
  }

  // Widths 2 and 3 are unrolled, so that their positions stay in registers.
  FD_FN void reduce_phases(const Lanes& lanes, i64 slot) const {
    if (this->shape_.cols.kernel == 3) return reduce<3>(lanes, slot);
    if (this->shape_.cols.kernel == 2) return reduce<2>(lanes, slot);
    reduce<0>(lanes, slot);
  }

  FD_FN void reduce_pixels(const S* row, i64 col_stride, const Lanes& lanes, i64 slot) const {
    const PoolAxis& cols = this->shape_.cols;
    i64 to = slot * this->room_;
    for (i64 ow = 0; ow < cols.out; ++ow) {
      const i64 begin = cols.begin(ow), end = cols.end(ow), top = cols.top(ow);
      for (i64 i = 0; i < lanes.pixel; i += V::W, to += V::W) {
        V m = V::load(row + begin * col_stride + i);
        I winner(begin - top);
        for (i64 w = begin + 1; w < end; ++w) {
          const V v = V::load(row + w * col_stride + i);
          const auto wins = greater_or_nan(v, m);
          m = select(wins, v, m);
          winner = select(wins, I(w - top), winner);
        }
        m.store(this->ring_ + to);
        winner.store(kernel_col_ + to);
      }
    }
  }

  template <int kKernel>
  FD_FN void reduce(const Lanes& lanes, i64 slot) const {
    const i64 kernel = kKernel > 0 ? kKernel : this->shape_.cols.kernel;
    for (i64 i = 0; i < lanes.n; i += V::W) {
      V m(static_cast<T>(-INFINITY));
      I winner = I::load(first_ + i);
      for (i64 k = 0; k < kernel; ++k) {
        const V v = V::load(this->phases_.data + this->phases_.taps[k] + i);
        const auto wins = greater_or_nan(v, m);
        m = select(wins, v, m);
        winner = select(wins, I(k), winner);
      }
      m.store(this->ring_ + slot * this->room_ + i);
      winner.store(kernel_col_ + slot * this->room_ + i);
    }
  }

  FD_FN void write_row(const Tile& tile, const Lanes& lanes, i64 oh) const {
    const PoolAxis &rows = this->shape_.rows, &cols = this->shape_.cols;
    const i64 begin = rows.begin(oh), end = rows.end(oh), skipped = begin - rows.top(oh);
    for (i64 i = 0; i < lanes.n; i += V::W) {
      i64 at = begin % rows.kernel * this->room_ + i, row_start = skipped * cols.kernel;
      V m = V::load(this->ring_ + at);
      I winner = I::load(kernel_col_ + at) + I(row_start);
      for (i64 h = begin + 1; h < end; ++h) {
        at = at + this->room_ < rows.kernel * this->room_ ? at + this->room_ : i;
        row_start += cols.kernel;
        const V v = V::load(this->ring_ + at);
        const auto wins = greater_or_nan(v, m);
        m = select(wins, v, m);
        winner = select(wins, I::load(kernel_col_ + at) + I(row_start), winner);
      }
      m.store(this->result_ + i);
      winner.store(position_ + i);
    }
    this->template store<S>(this->result_, y_, tile, lanes, oh);
    this->template store<P>(position_, positions_, tile, lanes, oh);
  }

 private:
  Images y_, positions_;
  i64 kernel_col_at_ = 0, position_at_ = 0, first_at_ = 0;
  Lane<T>*kernel_col_ = nullptr, *position_ = nullptr, *first_ = nullptr;
};

template <class S>
class MeanRows : public ForwardRows<S> {
 public:
  using Base = ForwardRows<S>;
  using typename Base::T, typename Base::V;
  MeanRows(const PoolForwardArgs& args, i64 planes, ScratchLayout& layout)
      : Base(args.shape, planes, layout), y_(args.y) {
    divisor_cols_at_ = layout.add(this->room_ * static_cast<i64>(sizeof(T)));
  }
  void bind(char* memory) {
    Base::bind(memory);
    divisor_cols_ = reinterpret_cast<T*>(memory + divisor_cols_at_);
  }

  void prepare(const Lanes& lanes) {
    this->phases_.set_pixel(lanes.pixel);
    fill(this->phases_.data, this->phases_.size(), T(0));
    for_each_window(this->shape_.cols, lanes, [&](i64 i, i64 window) {
      divisor_cols_[i] = static_cast<T>(divisor_size(this->shape_.cols, window, this->shape_.count_padding));
    });
  }

  FD_FN void reduce_phases(const Lanes& lanes, i64 slot) const {
    const i64 kernel = this->shape_.cols.kernel;
    for (i64 i = 0; i < lanes.n; i += V::W) {
      V sum(T(0));
      for (i64 k = 0; k < kernel; ++k) sum = sum + V::load(this->phases_.data + this->phases_.taps[k] + i);
      sum.store(this->ring_ + slot * this->room_ + i);
    }
  }

  FD_FN void reduce_pixels(const S* row, i64 col_stride, const Lanes& lanes, i64 slot) const {
    const PoolAxis& cols = this->shape_.cols;
    i64 to = slot * this->room_;
    for (i64 ow = 0; ow < cols.out; ++ow) {
      const i64 begin = cols.begin(ow), end = cols.end(ow);
      for (i64 i = 0; i < lanes.pixel; i += V::W, to += V::W) {
        V sum(T(0));
        for (i64 w = begin; w < end; ++w) sum = sum + V::load(row + w * col_stride + i);
        sum.store(this->ring_ + to);
      }
    }
  }

  FD_FN void write_row(const Tile& tile, const Lanes& lanes, i64 oh) const {
    const PoolAxis& rows = this->shape_.rows;
    const i64 begin = rows.begin(oh), end = rows.end(oh);
    const V divisor_rows(static_cast<T>(divisor_size(rows, oh, this->shape_.count_padding)));
    for (i64 i = 0; i < lanes.n; i += V::W) {
      i64 at = begin % rows.kernel * this->room_ + i;
      V sum = V::load(this->ring_ + at);
      for (i64 h = begin + 1; h < end; ++h) {
        at = at + this->room_ < rows.kernel * this->room_ ? at + this->room_ : i;
        sum = sum + V::load(this->ring_ + at);
      }
      (sum / (divisor_rows * V::load(divisor_cols_ + i))).store(this->result_ + i);
    }
    this->template store<S>(this->result_, y_, tile, lanes, oh);
  }

 private:
  Images y_;
  i64 divisor_cols_at_ = 0;
  T* divisor_cols_ = nullptr;
};

// Reduces a row of x to a row of the ring. Pixels that consist of whole vectors are read in place; other rows are first
// split into phases.
template <class Rows>
FD_FN void reduce_row(Rows& rows, const PoolForwardArgs& args, const Tile& tile, const Lanes& lanes, i64 h) {
  const i64 slot = h % args.shape.rows.kernel;
  if (args.shape.channels_last && lanes.pixel % Rows::V::W == 0) {
    const i64 at = PlaneCursor(args.x, tile).at + h * args.x.row;
    return rows.reduce_pixels(static_cast<const typename Rows::Stored*>(args.x.data) + at, args.x.col, lanes, slot);
  }
  rows.split(args.x, tile, lanes, h);
  rows.reduce_phases(lanes, slot);
}

template <class Rows>
void forward_tile(Rows& rows, const PoolForwardArgs& args, const Tile& tile, const Lanes& lanes) {
  const PoolAxis& axis = args.shape.rows;
  i64 next = 0;  // the next row of x to reduce
  for (i64 oh = 0; oh < axis.out; ++oh) {
    for (next = maximum(next, axis.begin(oh)); next < axis.end(oh); ++next) reduce_row(rows, args, tile, lanes, next);
    rows.write_row(tile, lanes, oh);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
