// pool_tile: how pooling cuts its work, and the rows of lanes that its kernels run over.
//
// A tile is some planes (an image's channel): consecutive channels of one image where channels are the last axis, else
// any consecutive planes side by side. Both become one row of lanes:
//
//   a pixel is `pixel` lanes (the tile's channels, or 1); a plane's row is `length` pixels, the tile's planes follow
//   phase j of a padded row holds its columns j, j + stride, j + 2 stride ...; so element k of all windows of a row is
//   the contiguous run that starts at taps[k], whatever the stride is
//
// Columns outside the image hold the rule's neutral element, written once: splitting a row touches the others only.
#pragma once

#include "core/pool_args.hpp"
#include "cpu/pool_lanes.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

constexpr i64 kTileLanes = 128;       // a row of so many lanes hides what a row costs
constexpr i64 kTileBytes = 96 << 10;  // of scratch: with x and y it stays in a core's L2
constexpr i64 kLineLanes = 16;        // channels of a tile come in cache lines of float32

FD_FN void convert(float from, float& to) { to = from; }
FD_FN void convert(double from, double& to) { to = from; }
FD_FN void convert(float from, bfloat16& to) { narrow(from, to); }
FD_FN void convert(bfloat16 from, float& to) { to = widen(from); }
template <class I, class P>
FD_FN std::enable_if_t<std::is_integral_v<I>> convert(I from, P& to) {
  to = static_cast<P>(from);
}

template <class From, class To>
FD_FN void copy_run(const From* __restrict src, i64 n, To* __restrict dst) {
  for (i64 i = 0; i < n; ++i) convert(src[i], dst[i]);
}

// `count` pixels of `pixel` elements, steps apart.
template <class From, class To>
FD_FN void copy_pixels(const From* src, i64 src_step, To* dst, i64 dst_step, i64 count, i64 pixel) {
  if (src_step == pixel && dst_step == pixel) return copy_run(src, count * pixel, dst);
  if (pixel == 1)
    for (i64 i = 0; i < count; ++i) convert(src[i * src_step], dst[i * dst_step]);
  else
    for (i64 i = 0; i < count; ++i) copy_run(src + i * src_step, pixel, dst + i * dst_step);
}

template <class T>
FD_FN void fill(T* p, i64 n, T value) {
  for (i64 i = 0; i < n; ++i) p[i] = value;
}

struct Tile {
  i64 image, channel;  // of its first plane
  i64 channels;        // of an image
  i64 planes;
};

// Where the planes of a tile start in an array, one after the other. (Two divisions a plane and row were seen to cost as
// much as its windows.)
class PlaneCursor {
 public:
  FD_FN PlaneCursor(const Images& a, const Tile& tile)
      : at(tile.image * a.image + tile.channel * a.channel),
        a_(a),
        left_(tile.channels - tile.channel),
        channels_(tile.channels) {}
  FD_FN void next() {
    at += a_.channel;
    if (--left_ > 0) return;
    at += a_.image - channels_ * a_.channel;
    left_ = channels_;
  }
  i64 at;

 private:
  const Images& a_;
  i64 left_, channels_;
};

// Which planes a tile has. `plane_bytes` is what one plane takes of scratch memory.
class Tiles {
 public:
  Tiles(const PoolShape& s, i64 length, i64 plane_bytes, int threads) : channels_(s.channels) {
    const i64 fit = kTileBytes / maximum(plane_bytes, 1);
    const i64 share = divide_up(s.planes(), threads);
    if (s.channels_last) {
      row_ = s.channels;
      planes_ = minimum(round_up(maximum(minimum(fit, share), 1), kLineLanes), maximum(s.channels, 1));
    } else {
      row_ = s.planes();
      planes_ = maximum(minimum(minimum(fit, share), divide_up(kTileLanes, length)), 1);
    }
    per_row_ = divide_up(row_, planes_);
    rows_ = row_ == 0 ? 0 : s.planes() / row_;
  }
  i64 planes() const { return planes_; }  // of the largest tile
  i64 count() const { return rows_ * per_row_; }
  Tile tile(i64 index) const {
    const i64 begin = index % per_row_ * planes_, first = index / per_row_ * row_ + begin;
    return {first / channels_, first % channels_, channels_, minimum(planes_, row_ - begin)};
  }

 private:
  i64 channels_, planes_, row_, per_row_, rows_;  // an image's channels, or all planes, make a row of tiles
};

// The lanes of a tile's rows.
struct Lanes {
  i64 segments, pixel;  // planes side by side, lanes of a pixel
  i64 length;           // lanes of a segment: the windows, and the pixels that the last of them reaches over
  i64 n;                // lanes in use, in whole packs
  static FD_FN i64 reach(const PoolAxis& cols) { return (cols.kernel - 1) / cols.stride; }
  static FD_FN i64 phases(const PoolAxis& cols) { return minimum(cols.stride, cols.kernel); }
  Lanes(const PoolShape& s, i64 planes, i64 pack)
      : segments(s.channels_last ? 1 : planes),
        pixel(s.channels_last ? planes : 1),
        length((s.cols.out + reach(s.cols)) * pixel),
        n(round_up(segments * length, pack)) {}
};

// f(lane, its window); lanes beyond a plane's windows count to the last one.
template <class F>
FD_FN void for_each_window(const PoolAxis& cols, const Lanes& lanes, F f) {
  for (i64 i = 0; i < lanes.n; ++i) f(i, minimum(i % lanes.length / lanes.pixel, cols.out - 1));
}

// The phases of a row, and the way of each column into them.
template <class T>
class Phases {
 public:
  Phases() = default;
  Phases(const PoolShape& s, i64 planes, ScratchLayout& layout) : axis_(s.cols) {
    const Lanes widest(s, planes, Vec<T>::W);
    room_ = round_up(widest.n + Lanes::reach(axis_) * widest.pixel, Vec<T>::W);
    memory_at_ = layout.add(size() * static_cast<i64>(sizeof(T)));
    taps_at_ = layout.add(axis_.kernel * static_cast<i64>(sizeof(i64)));
    column_at_ = layout.add(axis_.in * static_cast<i64>(sizeof(i64)));
    place_at_ = layout.add(axis_.in * static_cast<i64>(sizeof(i64)));
  }
  i64 size() const { return Lanes::phases(axis_) * room_; }

  void bind(char* memory) {
    data = reinterpret_cast<T*>(memory + memory_at_);
    taps = reinterpret_cast<i64*>(memory + taps_at_);
    column_ = reinterpret_cast<i64*>(memory + column_at_);
    place_ = reinterpret_cast<i64*>(memory + place_at_);
  }

  void set_pixel(i64 pixel) {
    pixel_ = pixel;
    count_ = 0;
    for (i64 k = 0; k < axis_.kernel; ++k) taps[k] = k % axis_.stride * room_ + k / axis_.stride * pixel;
    i64 phase = axis_.padding % axis_.stride, index = axis_.padding / axis_.stride;
    for (i64 w = 0; w < axis_.in; ++w) {
      if (phase < Lanes::phases(axis_) && index < axis_.out + Lanes::reach(axis_)) {
        column_[count_] = w;
        place_[count_++] = phase * room_ + index * pixel;
      }
      if (++phase == axis_.stride) phase = 0, ++index;
    }
  }

  template <class S>
  FD_FN void split(const S* row, i64 col_stride, i64 segment) {
    T* to = data + segment;
    if (axis_.stride == 1) return copy_pixels(row, col_stride, to + place_[0], pixel_, count_, pixel_);
    if (pixel_ > 1) {
      for (i64 i = 0; i < count_; ++i) copy_run(row + column_[i] * col_stride, pixel_, to + place_[i]);
    } else if (axis_.stride == 2 && axis_.kernel > 1 && col_stride == 1) {
      split_in_two(row, to);
    } else {
      for (i64 i = 0; i < count_; ++i) convert(row[column_[i] * col_stride], to[place_[i]]);
    }
  }

  // The way back: of a row that starts as zeros where windows leave columns out.
  template <class S>
  FD_FN void join(const T* from, S* row, i64 col_stride) const {
    if (axis_.stride == 1) return copy_pixels(from + place_[0], pixel_, row, col_stride, count_, pixel_);
    if (pixel_ == 1) {
      for (i64 i = 0; i < count_; ++i) convert(from[place_[i]], row[column_[i] * col_stride]);
      return;
    }
    for (i64 i = 0; i < count_; ++i) copy_run(from + place_[i], pixel_, row + column_[i] * col_stride);
  }
  bool covers_all() const { return count_ == axis_.in; }

  T* data = nullptr;
  i64* taps = nullptr;

 private:
  // Pairs of columns from the first that starts one, then what is left.
  template <class S>
  FD_FN void split_in_two(const S* __restrict row, T* __restrict to) {
    const i64 first = axis_.padding % 2;
    if (first == 1) convert(row[0], to[place_[0]]);
    const i64 pairs = (count_ - first) / 2;
    T* __restrict even = to + (axis_.padding + first) / 2;
    T* __restrict odd = even + room_;
    const S* __restrict from = row + first;
    for (i64 i = 0; i < pairs; ++i) {
      convert(from[2 * i], even[i]);
      convert(from[2 * i + 1], odd[i]);
    }
    if (first + 2 * pairs < count_) convert(row[count_ - 1], to[place_[count_ - 1]]);
  }

  PoolAxis axis_{};
  i64 room_ = 0, pixel_ = 0, count_ = 0;
  i64 memory_at_ = 0, taps_at_ = 0, column_at_ = 0, place_at_ = 0;
  i64 *column_ = nullptr, *place_ = nullptr;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
