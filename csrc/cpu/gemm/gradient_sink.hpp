// gradient_sink: stores the products of the backward pass, dx and dw.
#pragma once

#include "cpu/gemm/active_columns.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The sink of both gradients. Stores active rows and columns. If the layer drops its input, it also applies the mask of
// x to dx. Inactive columns become 0 together with their active neighbors; inactive rows are cleared by zero_rows().
template <class S>
struct GradientArray {
  S* c;  // C order, dense
  i64 ld;
};

template <class S, class Rows, class Cols>
class GradientSink : public TileSink {
 public:
  using T = acc_t<S>;
  static constexpr bool holds_sums = std::is_same_v<S, T> && Rows::all && Cols::all;

  // factor: the scale of unit dropout of x, for listed columns. `words` has room for the keep bits of a strip.
  GradientSink(const GradientArray<S>& array, const Rows& rows, const Cols& cols, T factor,
               const MaskBits* mask_bits = nullptr, u32* words = nullptr)
      : c_(array.c),
        ld_(array.ld),
        row_axis_(rows),
        col_axis_(cols),
        factor_(factor),
        mask_bits_(mask_bits),
        words_(words) {}
  S* c() { return c_; }
  i64 ld() const { return ld_; }
  void prefetch(const Rect& at) const {
    const Range range = col_axis_.original_range(at.j, at.cols);
    for (i64 r = 0; r < at.rows; ++r)
      prefetch_tile(c_ + row_axis_.at(at.i + r) * ld_ + range.begin, ld_, 1, range.size());
  }

  void begin_strip(const Rect& strip) {
    strip_row_ = strip.i;
    strip_col_ = strip.j;
    if (dropping()) mask_bits_->strip(strip.i, strip.rows, strip.j, words_);
  }

  void epilogue(const Rect& at, T* tile) {
    constexpr int NR = Tiling<T>::NR;
    using V = Vec<T>;
    if (dropping()) {
      const V scale(static_cast<T>(keep_scale(mask_bits_->mask().threshold)));
      for (i64 r = 0; r < at.rows; ++r) {
        const u32 word = words_[at.i + r - strip_row_] >> (at.j - strip_col_);
        for (int c = 0; c < NR; c += V::W) {
          T* p = tile + r * NR + c;
          select(V::lanes(word >> c), V::load(p) * scale, V(T(0))).store(p);
        }
      }
    }
    const auto row_of = [&](i64 r) { return c_ + row_axis_.at(at.i + r) * ld_; };
    if constexpr (Cols::all) {
      for (i64 r = 0; r < at.rows; ++r) copy_tile_row(tile + r * NR, at.cols, row_of(r) + at.j);
    } else {
      constexpr int kRoom = NR + V::W;
      alignas(64) T scaled[Tiling<T>::MR * kRoom];
      for (i64 r = 0; r < at.rows; ++r)
        for (int c = 0; c < NR; c += V::W) (V::load(tile + r * NR + c) * V(factor_)).store(scaled + r * kRoom + c);
      expand_rows<S>(col_axis_, {at.j, at.j + at.cols}, {scaled, kRoom, at.rows, T(0)}, nullptr, row_of);
    }
  }

  // Clears the inactive rows of C in the original range of compact rows i .. i+rows-1, or all of its rows if no column
  // is active.
  void zero_rows(i64 i, i64 rows) const {
    const Range range = row_axis_.original_range(i, rows);
    for (i64 r = range.begin; r < range.end; ++r)
      if (col_axis_.count() == 0 || is_inactive(r))
        for (i64 c = 0; c < ld_; ++c) narrow(T(0), c_[r * ld_ + c]);
  }

 private:
  bool is_inactive(i64 row) const {
    if constexpr (Rows::all)
      return false;
    else
      return (row_axis_.bits(row) & 1) == 0;
  }
  bool dropping() const { return mask_bits_ != nullptr && !mask_bits_->keeps_all(); }
  S* const c_;
  const i64 ld_;
  const Rows row_axis_;
  const Cols col_axis_;
  const T factor_;
  const MaskBits* mask_bits_;
  u32* words_;
  i64 strip_row_ = 0, strip_col_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
