// conv_gradient: dz of a convolution, formed where a product needs it, from gradients and outputs in any order of axes.
#pragma once

#include "cpu/conv_images.hpp"
#include "cpu/gradient_packer.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The linear layer that all pixels of a convolution are, as far as dz is concerned.
inline LinearBackwardArgs pixels_as_rows(const Conv2dBackwardArgs& args) {
  const Conv2dSizes& s = args.sizes;
  LinearBackwardArgs rows{};
  rows.dtype = args.dtype;
  rows.M = s.B * s.OH * s.OW, rows.N = s.N;
  rows.dy = {args.dy.data, s.N, 1};
  rows.kept = args.kept.data;
  rows.saved = args.saved;
  rows.activation = args.activation;
  rows.before = args.before;
  rows.mask = args.mask;
  return rows;
}

// One thread's view of dz. Pixels that do not lie in rows are put in rows first, `most` at a time.
template <class S>
class ConvGradient {
 public:
  using T = sum_of<S>;

  static i64 room(const Conv2dSizes& s, i64 most) {
    return round_up(most * s.N * i64{sizeof(S)}, 64) * 2 + most * round_up(s.N, kGroup) * i64{sizeof(T)};
  }

  ConvGradient(const Conv2dBackwardArgs& args, const GradientPacker<S>& packer, i64 most, char* memory)
      : args_(args), packer_(packer) {
    const Conv2dSizes& s = args.sizes;
    const i64 rows = round_up(most * s.N * i64{sizeof(S)}, 64);
    dy_ = is_pixel_matrix(args.dy, s.OH, s.OW, s.N) ? nullptr : reinterpret_cast<S*>(memory);
    const bool dense = args.kept.data == nullptr || is_pixel_matrix(args.kept, s.OH, s.OW, s.N);
    kept_ = dense ? nullptr : reinterpret_cast<S*>(memory + rows);
    padded_ = reinterpret_cast<T*>(memory + 2 * rows);
  }

  // Makes a range of pixels ready for the calls below.
  void prepare(Range pixels) {
    if (dy_ == nullptr && kept_ == nullptr) return;
    const S* kept = args_.kept.data == nullptr ? nullptr : rows_of(args_.kept, pixels, kept_);
    packer_.read_at(pixels.begin, View<S>(rows_of(args_.dy, pixels, dy_), args_.sizes.N, 1), kept);
  }

  // dst[r*ld + c] = dz(pixel i + r, channel j + c), and its column sums added to db, unless that is null.
  void form(i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    packer_.form(Order::by_cols, i, rows, j, cols, dst, ld, db);
  }

  // All channels of n pixels, one pixel after the other. The packer writes whole strips of 32 columns.
  void form_pixels(i64 i, i64 n, T* dst) {
    const i64 N = args_.sizes.N, ld = round_up(N, kGroup);
    T* strips = ld == N ? dst : padded_;
    form(i, n, 0, N, strips, ld, nullptr);
    for (i64 m = 0; strips != dst && m < n; ++m) copy_row(strips + m * ld, N, dst + m * N);
  }

 private:
  // These pixels as rows: where they lie, or put in rows at `copy`, unless that is null.
  const S* rows_of(const Image& image, Range pixels, S* copy) const {
    const Conv2dSizes& s = args_.sizes;
    if (copy == nullptr) return static_cast<const S*>(image.data) + pixels.begin * s.N;
    visit_rows_of_pixels(pixels, s.OH, s.OW, [&](i64 b, i64 h, i64 w, i64 n, i64 offset) {
      relayout(pixel_row<S>(image, b, h, w), n, s.N, copy + offset * s.N, s.N);
    });
    return copy;
  }

  const Conv2dBackwardArgs& args_;
  GradientPacker<S> packer_;
  S *dy_, *kept_;
  T* padded_;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
