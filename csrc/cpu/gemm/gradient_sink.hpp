// gradient_sink: stores the products of the backward pass, dx and dw.
#pragma once

#include "cpu/gemm/active_columns.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The sink of both gradients. Stores active rows and columns. If the layer drops its input, it also applies the mask of
// x to dx. Inactive columns become 0 together with their active neighbors; inactive rows are cleared by zero_rows().
template <class S>
class GradientSink {
 public:
  using T = acc_t<S>;
  GradientSink(S* c, i64 ld, const ActiveAxis& row_axis, const ActiveAxis& col_axis, T factor,
               const MaskBits* mask_bits, u32* words)
      : c_(c),
        ld_(ld),
        row_axis_(row_axis),
        col_axis_(col_axis),
        factor_(factor),
        mask_bits_(mask_bits),
        words_(words) {}
  S* c() { return c_; }
  i64 ld() const { return ld_; }
  bool holds_sums() const { return std::is_same_v<S, T> && row_axis_.all() && col_axis_.all(); }
  void prefetch(i64 i, i64 rows, i64 j, i64 cols) const {
    const Range range = col_axis_.original_range(j, cols);
    for (i64 r = 0; r < rows; ++r) prefetch_tile(c_ + row_axis_.at(i + r) * ld_ + range.begin, ld_, 1, range.size());
  }

  void begin_strip(i64 i, i64 rows, i64 j, i64) {
    strip_row_ = i;
    strip_col_ = j;
    if (dropping()) mask_bits_->strip(i, rows, j, words_);
  }

  void epilogue(i64 i, i64 rows, i64 j, i64 cols, T* tile) {
    constexpr int NR = Tiling<T>::NR;
    using V = Vec<T>;
    if (dropping()) {
      const V scale(static_cast<T>(keep_scale(mask_bits_->mask().threshold)));
      for (i64 r = 0; r < rows; ++r) {
        const u32 word = words_[i + r - strip_row_] >> (j - strip_col_);
        for (int c = 0; c < NR; c += V::W) {
          T* p = tile + r * NR + c;
          select(V::lanes(word >> c), V::load(p) * scale, V(T(0))).store(p);
        }
      }
    }
    const auto row_of = [&](i64 r) { return c_ + row_axis_.at(i + r) * ld_; };
    if (col_axis_.all()) {
      for (i64 r = 0; r < rows; ++r) copy_row(tile + r * NR, cols, row_of(r) + j);
      return;
    }
    constexpr int kRoom = NR + V::W;
    alignas(64) T scaled[Tiling<T>::MR * kRoom];
    for (i64 r = 0; r < rows; ++r)
      for (int c = 0; c < NR; c += V::W) (V::load(tile + r * NR + c) * V(factor_)).store(scaled + r * kRoom + c);
    expand_rows<S>(col_axis_, j, cols, rows, scaled, kRoom, T(0), nullptr, row_of);
  }

  // Clears the inactive rows of C in the original range of compact rows i .. i+rows-1, or all of its rows if no column
  // is active.
  void zero_rows(i64 i, i64 rows) const {
    const Range range = row_axis_.original_range(i, rows);
    for (i64 r = range.begin; r < range.end; ++r)
      if (col_axis_.count() == 0 || (!row_axis_.all() && (row_axis_.bits(r) & 1) == 0))
        for (i64 c = 0; c < ld_; ++c) narrow(T(0), c_[r * ld_ + c]);
  }

 private:
  bool dropping() const { return mask_bits_ != nullptr && !mask_bits_->keeps_all(); }
  S* c_;
  i64 ld_;
  const ActiveAxis &row_axis_, &col_axis_;
  T factor_;  // scale of unit dropout of x
  const MaskBits* mask_bits_;
  u32* words_;
  i64 strip_row_ = 0, strip_col_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
