// dz: forms blocks of dz = dy * mask * act' when a product packs its A.
#pragma once

#include "core/epilogue.hpp"
#include "core/params/epilogue.hpp"
#include "cpu/gemm/operands.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct DzSource {
  View<S> dy;  // [M,N]
  const S* saved_activation;  // [M,N] C order, or null
  i64 N;
  i64 first_row = 0;  // the row at the beginning of dy and of saved_activation
};

// A packed block of dz: element (r, c) is at p[r*ld + c], with rows padded with zeros to whole strips. Pairs of
// bfloat16 lie along the rows if A is read by rows, and along the columns if A is read by columns.
template <class T>
struct DzBlock {
  Order order;
  T* p;
  i64 ld;
  T* db = nullptr;  // db[c] += the sum of column c of the block, unless db is null
};

// Forms blocks of dz and, if wanted, adds their column sums to db.
template <class S>
class DzPacker {
 public:
  using T = acc_t<S>;

  // The mask of dy is that of `params`. Without a list, `outputs` are all columns.
  DzPacker(const EpilogueParams& params, const DzSource<S>& source, const ActiveColumns& outputs = {})
      : params_(params),
        source_(source),
        outputs_(outputs, source.N),
        mask_bits_(needed_mask(params)),
        scale_(static_cast<T>(keep_scale(params.mask.threshold))),
        rescale_(scale_ == T(0) ? T(0) : T(1) / scale_) {
    form_block_ = with_activation(params.activation, [&](auto act) -> FormBlock {
      using Act = decltype(act);
      return outputs.index == nullptr ? &DzPacker::form_dense<Act> : &DzPacker::form_compact<Act>;
    });
  }

  // Changes where rows from source.first_row on are read.
  void read_from(const DzSource<S>& source) { source_ = source; }

  // Forms the block `at` of dz. Columns are compact ones under unit dropout.
  void form(const Rect& at, const DzBlock<T>& block) const { form_block_(*this, at, block); }

 private:
  using FormBlock = void (*)(const DzPacker&, const Rect& at, const DzBlock<T>& block);

  // If relu saved y, the mask is not needed: y > 0 exactly where z > 0 is not dropped. Reading y is cheaper.
  static Mask needed_mask(const EpilogueParams& params) {
    Mask mask = params.mask;
    if (params.activation == Activation::relu && params.saved_kind == SavedKind::output) mask.threshold = 0;
    return mask;
  }

  template <class Act>
  static void form_dense(const DzPacker& self, const Rect& at, const DzBlock<T>& block) {
    const auto [order, dst, ld, db] = block;
    for (i64 r = 0; r < at.rows; r += 4) {  // one call of keep_words4 gives four rows of a strip
      const i64 n = minimum(4, at.rows - r);
      for (i64 s = 0; s < at.cols; s += kGroup) {
        u32 words[4];
        const Rect part{at.i + r, n, at.j + s, minimum(kGroup, at.cols - s)};
        self.mask_bits_.strip(part.i, n, part.j, words);
        T* sums = db == nullptr ? nullptr : db + s;
        if constexpr (Format<S>::pair == 1) {
          self.template form_strip<Act>(part, words, dst + r * ld + s, ld, sums);
        } else {
          alignas(64) T strip[4 * kGroup];
          self.template form_strip<Act>(part, words, strip, kGroup, sums);
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
  static void form_compact(const DzPacker& self, const Rect& at, const DzBlock<T>& block) {
    if constexpr (Format<S>::pair == 1) {
      T *dst = block.p, *db = block.db;
      for (i64 r = 0; r < at.rows; ++r, dst += block.ld) {
        self.template form_row<Act>(at.i + r, at.j, at.cols, dst);
        for (i64 c = 0; db != nullptr && c < at.cols; ++c) db[c] += dst[c];
      }
    } else {
      self.template form_pairs<Act>(at, block);
    }
  }

  template <class Act>
  void form_pairs(const Rect& at, const DzBlock<T>& block) const {
    const auto [order, dst, ld, db] = block;
    const i64 cols = at.cols;
    constexpr i64 kRoom = Tiling<T>::KC * Format<S>::pair + Vec<T>::W;
    alignas(64) T row[2][kRoom];
    for (i64 r = 0; r < at.rows; ++r) {
      T* current = row[r % 2];
      form_row<Act>(at.i + r, at.j, cols, current);
      current[cols] = T(0);  // the second half of the last pair, if cols is odd
      for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += current[c];
      if (order == Order::by_rows)
        Packer<S>::store_row(current, cols, dst + r * ld);
      else if (r % 2 == 1 || r + 1 == at.rows)
        Packer<S>::store_row_pair(row[0], r % 2 == 1 ? row[1] : nullptr, cols, dst + r / 2 * ld);
    }
  }

  template <class Act>
  FD_FN void form_row(i64 i, i64 j, i64 cols, T* dst) const {
    using V = Vec<T>;
    const i64 row = i - source_.first_row, N = source_.N;
    const View<S> dy = source_.dy.at(row, 0);
    const S* saved = source_.saved_activation;
    const View<S> saved_row(saved == nullptr ? nullptr : saved + row * N, N, 1);
    const DropoutScale<V> by{V(scale_), V(rescale_)};
    const auto dz = [&](i64 c) {
      const V s = saved_row.p == nullptr ? V(T(0)) : load_row<V>(saved_row, c, N);
      return Epilogue<Act>::backward(load_row<V>(dy, c, N), s, params_.saved_kind, V::lanes(~0u), by,
                                     params_.dropout_first);
    };
    compress_row<V>(outputs_, j, cols, dz, dst);
  }

  template <class Act>
  FD_FN void form_strip(const Rect& at, const u32* words, T* dst, i64 ld, T* db) const {
    using V = Vec<T>;
    S dy_buffer[kGroup], saved_buffer[kGroup];
    const View<S> saved_activation(source_.saved_activation, source_.N, 1);
    const DropoutScale<V> by{V(scale_), V(rescale_)};
    const i64 cols = at.cols;
    for (i64 r = 0; r < at.rows; ++r, dst += ld) {
      const i64 row = at.i + r - source_.first_row;
      const S* dy_row = strip_row(source_.dy.at(row, at.j), cols, dy_buffer);
      const S* saved_row =
          saved_activation.p == nullptr ? nullptr : strip_row(saved_activation.at(row, at.j), cols, saved_buffer);
      for (int c = 0; c < kGroup; c += V::W) {
        const V s = saved_row == nullptr ? V(T(0)) : V::load(saved_row + c);
        V dz = Epilogue<Act>::backward(V::load(dy_row + c), s, params_.saved_kind, V::lanes(words[r] >> c), by,
                                       params_.dropout_first);
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

  const EpilogueParams& params_;
  DzSource<S> source_;
  ActiveIndices outputs_;  // read by form_compact only
  MaskBits mask_bits_;
  T scale_, rescale_;
  FormBlock form_block_;
};

// dz as the A of a product. dx reads it by rows, [M,N].
template <class S>
struct DzRows {
  const DzPacker<S>& packer;
  i64 K;  // of the product: the active columns of dz

  void pack(Range rows, Range k_steps, acc_t<S>* dst, bool) const {
    const Range n = elements<S>(k_steps, K);
    packer.form({rows.begin, rows.size(), n.begin, n.size()}, {Order::by_rows, dst, Tiling<acc_t<S>>::LDA});
  }
};

// dw reads it by columns, [N,M], and sums db while it packs.
template <class S>
struct DzColumns {
  const DzPacker<S>& packer;
  i64 K;  // of the product: the rows of dz
  acc_t<S>* db;  // [N], or null

  void pack(Range rows, Range k_steps, acc_t<S>* dst, bool first) const {
    const Range m = elements<S>(k_steps, K);
    packer.form({m.begin, m.size(), rows.begin, rows.size()},
                {Order::by_cols, dst, Tiling<acc_t<S>>::MC, first && db != nullptr ? db + rows.begin : nullptr});
  }
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
