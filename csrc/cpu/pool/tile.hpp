// tile: how pooling cuts its work into tiles, and the rows of lanes on which its kernels run.
//
// A plane is one channel of one image. A tile is several planes: consecutive channels of one image if the channels
// are the last axis, else any consecutive planes, side by side. In both cases a row of the tile is one row of lanes:
//
//   a pixel is `pixel` lanes (the channels of the tile, or 1); the row of a plane is `length` lanes, and the planes of
//   the tile follow each other
//   phase j of a padded row holds its columns j, j + stride, j + 2 stride ...; so element k of all windows of a row is
//   a contiguous run that starts at taps[k], for any stride
//
// Columns outside the image hold the neutral element. It is written once: splitting a row writes other columns only.
#pragma once

#include "core/params/pool.hpp"
#include "cpu/pool/lanes.hpp"
#include "cpu/runtime/scratch.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

constexpr i64 kTileLanes = 128;  // with rows of so many lanes, the fixed cost of a row is small
constexpr i64 kTileBytes = 96 << 10;  // scratch memory of a tile: with x and y it fits the L2 of a core
constexpr i64 kLineLanes = 16;  // the channels of a tile are a multiple of this: one cache line of float32

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

// Copies `count` pixels of `pixel` elements each.
template <class From, class To>
FD_FN void copy_pixels(const From* src, i64 src_stride, To* dst, i64 dst_stride, i64 count, i64 pixel) {
  if (src_stride == pixel && dst_stride == pixel) return copy_run(src, count * pixel, dst);
  if (pixel == 1)
    for (i64 i = 0; i < count; ++i) convert(src[i * src_stride], dst[i * dst_stride]);
  else
    for (i64 i = 0; i < count; ++i) copy_run(src + i * src_stride, pixel, dst + i * dst_stride);
}

template <class T>
FD_FN void fill(T* p, i64 n, T value) {
  for (i64 i = 0; i < n; ++i) p[i] = value;
}

struct Tile {
  i64 image, channel;  // of the first plane
  i64 channels;  // of one image
  i64 planes;  // of the tile
};

// Offsets of the planes of a tile in an array, one after the other. It avoids two divisions per plane and row, which
// cost as much time as the windows themselves.
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

// Splits the planes into tiles. plane_bytes is the scratch memory of one plane.
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
  i64 channels_, planes_, row_, per_row_, rows_;  // a row of tiles: the channels of an image, or all planes
};

// The lanes of a row of a tile.
struct Lanes {
  i64 segments, pixel;  // planes side by side; lanes of a pixel
  i64 length;  // lanes of a segment: the windows, and `reach` pixels that the last windows cover too
  i64 n;  // lanes in use, rounded up to whole vectors
  static FD_FN i64 reach(const PoolAxis& cols) { return (cols.kernel - 1) / cols.stride; }
  static FD_FN i64 phases(const PoolAxis& cols) { return minimum(cols.stride, cols.kernel); }
  Lanes(const PoolShape& s, i64 planes, i64 width)
      : segments(s.channels_last ? 1 : planes),
        pixel(s.channels_last ? planes : 1),
        length((s.cols.out + reach(s.cols)) * pixel),
        n(round_up(segments * length, width)) {}
};

// Calls f(lane, window of the lane). Lanes beyond the windows of a plane belong to its last window.
template <class F>
FD_FN void for_each_window(const PoolAxis& cols, const Lanes& lanes, F f) {
  for (i64 i = 0; i < lanes.n; ++i) f(i, minimum(i % lanes.length / lanes.pixel, cols.out - 1));
}

// The phases of a row, and the place of each column in them.
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

  // The reverse of split. Columns that no window covers are not written: the caller has set them to 0.
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
  // Stride 2: splits pairs of columns, from the first column of phase 0 on, and then the remaining column.
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
