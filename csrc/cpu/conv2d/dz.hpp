// dz: forms dz of a convolution for the products that need it. dy and the saved activation may have any order of axes.
#pragma once

#include "cpu/conv2d/images.hpp"
#include "cpu/linear/dz.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// dy and the saved activation of all pixels as rows. Where they are no rows of memory, Conv2dDz copies them first.
template <class S>
DzSource<S> pixels_as_rows(const Conv2dBackwardArgs& args) {
  const i64 N = args.sizes.N;
  return {View<S>(static_cast<const S*>(args.dy.data), N, 1), static_cast<const S*>(args.saved_activation.data), N};
}

// The dz of one thread. Where pixels are not rows of memory, they are copied to rows, at most max_pixels at a time.
template <class S>
class Conv2dDz {
 public:
  using T = acc_t<S>;

  static i64 room(const Conv2dSizes& s, i64 max_pixels) {
    return round_up(max_pixels * s.N * i64{sizeof(S)}, 64) * 2 + max_pixels * round_up(s.N, kGroup) * i64{sizeof(T)};
  }

  Conv2dDz(const Conv2dBackwardArgs& args, const DzPacker<S>& packer, i64 max_pixels, char* memory)
      : args_(args), packer_(packer) {
    const Conv2dSizes& s = args.sizes;
    const i64 rows_bytes = round_up(max_pixels * s.N * i64{sizeof(S)}, 64);
    dy_copy_ = is_pixel_matrix(args.dy, s.OH, s.OW, s.N) ? nullptr : reinterpret_cast<S*>(memory);
    const bool dense = args.saved_activation.data == nullptr || is_pixel_matrix(args.saved_activation, s.OH, s.OW, s.N);
    saved_copy_ = dense ? nullptr : reinterpret_cast<S*>(memory + rows_bytes);
    padded_ = reinterpret_cast<T*>(memory + 2 * rows_bytes);
  }

  // Prepares a range of pixels for the calls below.
  void prepare(Range pixels) {
    if (dy_copy_ == nullptr && saved_copy_ == nullptr) return;
    const Image& saved = args_.saved_activation;
    const i64 N = args_.sizes.N;
    packer_.read_from({View<S>(rows_of(args_.dy, pixels, dy_copy_), N, 1),
                       saved.data == nullptr ? nullptr : rows_of(saved, pixels, saved_copy_), N, pixels.begin});
  }

  // dst[r*ld + c] = dz(pixel at.i + r, channel at.j + c). Adds the column sums to db, unless db is null.
  void form(const Rect& at, T* dst, i64 ld, T* db) const { packer_.form(at, {Order::by_cols, dst, ld, db}); }

  // All channels of n pixels, one pixel after the other. If N is not a multiple of 32, the packer first writes to
  // padded_, because it writes whole strips of 32 columns.
  void form_pixels(i64 i, i64 n, T* dst) {
    const i64 N = args_.sizes.N, ld = round_up(N, kGroup);
    T* strips = ld == N ? dst : padded_;
    form({i, n, 0, N}, strips, ld, nullptr);
    for (i64 m = 0; strips != dst && m < n; ++m) copy_row(strips + m * ld, N, dst + m * N);
  }

 private:
  // Returns the pixels as rows: in place if `copy` is null, else copied to `copy`.
  const S* rows_of(const Image& image, Range pixels, S* copy) const {
    const Conv2dSizes& s = args_.sizes;
    if (copy == nullptr) return static_cast<const S*>(image.data) + pixels.begin * s.N;
    visit_rows_of_pixels(pixels, s.OH, s.OW, [&](i64 b, i64 h, i64 w, i64 n, i64 offset) {
      relayout(pixel_row<S>(image, b, h, w), n, s.N, copy + offset * s.N, s.N);
    });
    return copy;
  }

  const Conv2dBackwardArgs& args_;
  DzPacker<S> packer_;
  S *dy_copy_, *saved_copy_;  // null where the array is a matrix of pixels already
  T* padded_;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
