// dz: forms blocks of dz = dy * mask * act' when a product packs its A.
#pragma once

#include "core/params/linear.hpp"
#include "cpu/gemm/active_columns.hpp"
#if FD_BF16_DOT
#include "cpu/gemm/pack_bf16.hpp"
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

// Forms blocks of dz and, if wanted, adds their column sums to db.
template <class S>
class DzPacker {
 public:
  using T = acc_t<S>;
  using FormBlock = void (*)(const DzPacker&, Order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db);

  DzPacker(const LinearBackwardArgs& args)
      : args_(args),
        dy_(args.dy),
        saved_activation_(static_cast<const S*>(args.saved_activation)),
        outputs_(args.outputs, args.N),
        mask_bits_(needed_mask(args)),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))),
        rescale_(scale_ == T(0) ? T(0) : T(1) / scale_) {
    form_block_ =
        with_activation(args.activation, [](auto act) -> FormBlock { return &DzPacker::form_with<decltype(act)>; });
  }

  // Sets where rows from first_row on are read: dy and saved_activation (row stride N, or null) replace those of the
  // arguments.
  void read_from(i64 first_row, View<S> dy, const S* saved_activation) {
    first_row_ = first_row, dy_ = dy, saved_activation_ = saved_activation;
  }

  // dst[r*ld + c] = dz(i + r, j + c), with rows padded with zeros to whole strips. Pairs of bfloat16 lie along the rows
  // if A is read by rows, and along the columns if A is read by columns.
  // db[c] += the sum of column c of the block, unless db is null. Columns are compact ones under unit dropout.
  void form(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    form_block_(*this, order, i, rows, j, cols, dst, ld, db);
  }

 private:
  // If relu saved y, the mask is not needed: y > 0 exactly where z > 0 is not dropped. Reading y is cheaper.
  static Mask needed_mask(const LinearBackwardArgs& args) {
    Mask mask = args.mask;
    if (args.activation == Activation::relu && args.saved_kind == SavedKind::output) mask.threshold = 0;
    return mask;
  }

  template <class Act>
  static void form_with(const DzPacker& self, Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) {
    if (!self.outputs_.all()) return self.template form_compact<Act>(order, i, rows, j, cols, dst, ld, db);
    for (i64 r = 0; r < rows; r += 4) {  // one call of keep_words4 gives four rows of a strip
      const i64 n = minimum(4, rows - r);
      for (i64 s = 0; s < cols; s += kGroup) {
        u32 words[4];
        self.mask_bits_.strip(i + r, n, j + s, words);
        T* sums = db == nullptr ? nullptr : db + s;
        const i64 width = minimum(kGroup, cols - s);
        if constexpr (Format<S>::pair == 1) {
          self.template form_strip<Act>(i + r, n, j + s, width, words, dst + r * ld + s, ld, sums);
        } else {
          alignas(64) T strip[4 * kGroup];
          self.template form_strip<Act>(i + r, n, j + s, width, words, strip, kGroup, sums);
          if (order == Order::by_rows)
            Packer<S>::store_rows(strip, n, dst + r * ld + s / 2, ld);
          else
            Packer<S>::store_row_pairs(strip, n, dst + r / 2 * ld + s, ld);
        }
      }
    }
  }

  // Reads row by row over the original columns and compresses the active lanes. Whole vectors are stored, so a row may
  // overwrite the beginning of the next one, which is written later.
  template <class Act>
  void form_compact(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    if constexpr (Format<S>::pair == 1) {
      for (i64 r = 0; r < rows; ++r, dst += ld) {
        form_row<Act>(i + r, j, cols, dst);
        for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += dst[c];
      }
    } else {
      form_pairs<Act>(order, i, rows, j, cols, dst, ld, db);
    }
  }

  template <class Act>
  void form_pairs(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    constexpr i64 kRoom = Tiling<T>::KC * Format<S>::pair + Vec<T>::W;
    alignas(64) T row[2][kRoom];
    for (i64 r = 0; r < rows; ++r) {
      T* current = row[r % 2];
      form_row<Act>(i + r, j, cols, current);
      current[cols] = T(0);  // the second half of the last pair, if cols is odd
      for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += current[c];
      if (order == Order::by_rows)
        Packer<S>::store_row(current, cols, dst + r * ld);
      else if (r % 2 == 1 || r + 1 == rows)
        Packer<S>::store_row_pair(row[0], r % 2 == 1 ? row[1] : nullptr, cols, dst + r / 2 * ld);
    }
  }

  template <class Act>
  FD_FN void form_row(i64 i, i64 j, i64 cols, T* dst) const {
    using V = Vec<T>;
    const i64 row = i - first_row_;
    const View<S> dy = dy_.at(row, 0);
    const View<S> saved_row(saved_activation_ == nullptr ? nullptr : saved_activation_ + row * args_.N, args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    const auto dz = [&](i64 c) {
      const V s = saved_row.p == nullptr ? V(T(0)) : load_row<V>(saved_row, c, args_.N);
      return Epilogue<Act>::backward(load_row<V>(dy, c, args_.N), s, args_.saved_kind, V::lanes(~0u), scale, rescale,
                                     args_.dropout_first);
    };
    compress_row<V>(outputs_, j, cols, dz, dst);
  }

  template <class Act>
  FD_FN void form_strip(i64 i, i64 rows, i64 j, i64 cols, const u32* words, T* dst, i64 ld, T* db) const {
    using V = Vec<T>;
    S dy_buffer[kGroup], saved_buffer[kGroup];
    const View<S> saved_activation(saved_activation_, args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    for (i64 r = 0; r < rows; ++r, dst += ld) {
      const i64 row = i + r - first_row_;
      const S* dy_row = strip_row(dy_.at(row, j), cols, dy_buffer);
      const S* saved_row =
          saved_activation.p == nullptr ? nullptr : strip_row(saved_activation.at(row, j), cols, saved_buffer);
      for (int c = 0; c < kGroup; c += V::W) {
        const V s = saved_row == nullptr ? V(T(0)) : V::load(saved_row + c);
        V dz = Epilogue<Act>::backward(V::load(dy_row + c), s, args_.saved_kind, V::lanes(words[r] >> c), scale,
                                       rescale, args_.dropout_first);
        if (cols < kGroup) dz = select(V::lanes(((u32{1} << cols) - 1) >> c), dz, V(T(0)));
        dz.store(dst + c);
        if (db != nullptr) (V::load(db + c) + dz).store(db + c);
      }
    }
  }

  // The elements of one row of a strip: in place where possible, else copied to `buffer` and padded with zeros.
  static FD_FN const S* strip_row(View<S> row, i64 cols, S* buffer) {
    if (row.cs == 1 && cols == kGroup) return row.p;
    for (i64 c = 0; c < kGroup; ++c) buffer[c] = c < cols ? row(0, c) : S{};
    return buffer;
  }

  const LinearBackwardArgs& args_;
  View<S> dy_;
  const S* saved_activation_;
  i64 first_row_ = 0;  // the row at the beginning of dy_ and saved_activation_
  ActiveAxis outputs_;
  MaskBits mask_bits_;
  T scale_, rescale_;
  FormBlock form_block_;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
