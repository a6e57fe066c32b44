// gradient_packer: dz = dy * mask * act', formed a block at a time where a product packs its A.
#pragma once

#include "core/args.hpp"
#include "cpu/kept.hpp"
#if FD_BF16_DOT
#include "cpu/pack_pairs.hpp"
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

// Forms blocks of dz, and db on the way where asked.
template <class S>
class GradientPacker {
 public:
  using T = sum_of<S>;
  using Form = void (*)(const GradientPacker&, Order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db);

  GradientPacker(const LinearBackwardArgs& args)
      : args_(args),
        dy_(args.dy),
        kept_(static_cast<const S*>(args.kept)),
        outputs_(args.outputs, args.N),
        keeper_(needed_mask(args)),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))),
        rescale_(scale_ == T(0) ? T(0) : T(1) / scale_) {
    form_ =
        with_activation(args.activation, [](auto act) -> Form { return &GradientPacker::form_block<decltype(act)>; });
  }

  // From here on rows first, first + 1, ... are read at `dy` and `kept` (row stride N, or null) in place of the arguments'.
  void read_at(i64 first, View<S> dy, const S* kept) { first_ = first, dy_ = dy, kept_ = kept; }

  // dst[r*ld + c] = dz(i + r, j + c), rows padded with zeros to whole strips; pairs of bfloat16 lie along the rows for
  // a block of A that is read by rows, along the columns for one that is read by columns.
  // db[c] += the block's column sums, unless null. Columns are those that count: compact ones under unit dropout.
  void form(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    form_(*this, order, i, rows, j, cols, dst, ld, db);
  }

 private:
  // relu's own output tells kept and positive from everything else: reading y costs less than drawing the mask again.
  static Mask needed_mask(const LinearBackwardArgs& args) {
    Mask mask = args.mask;
    if (args.activation == Activation::relu && args.saved == Saved::output) mask.threshold = 0;
    return mask;
  }

  template <class Act>
  static void form_block(const GradientPacker& self, Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld,
                         T* db) {
    if (!self.outputs_.all()) return self.template form_compact<Act>(order, i, rows, j, cols, dst, ld, db);
    for (i64 r = 0; r < rows; r += 4) {  // four rows of a strip share a generator call
      const i64 n = minimum(4, rows - r);
      for (i64 s = 0; s < cols; s += kGroup) {
        u32 words[4];
        self.keeper_.strip(i + r, n, j + s, words);
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

  // Row by row over the original columns, kept lanes moved together; whole packs may spill into the row after.
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
      T* mine = row[r % 2];
      form_row<Act>(i + r, j, cols, mine);
      mine[cols] = T(0);  // what an odd row's last pair ends with
      for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += mine[c];
      if (order == Order::by_rows)
        Packer<S>::store_row(mine, cols, dst + r * ld);
      else if (r % 2 == 1 || r + 1 == rows)
        Packer<S>::store_row_pair(row[0], r % 2 == 1 ? row[1] : nullptr, cols, dst + r / 2 * ld);
    }
  }

  template <class Act>
  FD_FN void form_row(i64 i, i64 j, i64 cols, T* dst) const {
    using V = Vec<T>;
    const View<S> dy = dy_.at(i - first_, 0);
    const View<S> kept(kept_ == nullptr ? nullptr : kept_ + (i - first_) * args_.N, args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    const auto dz = [&](i64 c) {
      const V saved = kept.p == nullptr ? V(T(0)) : load_row<V>(kept, c, args_.N);
      return Epilogue<Act>::backward(load_row<V>(dy, c, args_.N), saved, args_.saved, V::lanes(~0u), scale, rescale,
                                     args_.before);
    };
    compress_row<V>(outputs_, j, cols, dz, dst);
  }

  template <class Act>
  FD_FN void form_strip(i64 i, i64 rows, i64 j, i64 cols, const u32* words, T* dst, i64 ld, T* db) const {
    using V = Vec<T>;
    S dy_row[kGroup], kept_row[kGroup];
    const View<S> kept(kept_, args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    for (i64 r = 0; r < rows; ++r, dst += ld) {
      const S* g = strip_row(dy_.at(i + r - first_, j), cols, dy_row);
      const S* s = kept.p == nullptr ? nullptr : strip_row(kept.at(i + r - first_, j), cols, kept_row);
      for (int c = 0; c < kGroup; c += V::W) {
        const V saved = s == nullptr ? V(T(0)) : V::load(s + c);
        V dz = Epilogue<Act>::backward(V::load(g + c), saved, args_.saved, V::lanes(words[r] >> c), scale, rescale,
                                       args_.before);
        if (cols < kGroup) dz = select(V::lanes(((u32{1} << cols) - 1) >> c), dz, V(T(0)));
        dz.store(dst + c);
        if (db != nullptr) (V::load(db + c) + dz).store(db + c);
      }
    }
  }

  static FD_FN const S* strip_row(View<S> row, i64 cols, S* buffer) {
    if (row.cs == 1 && cols == kGroup) return row.p;
    for (i64 c = 0; c < kGroup; ++c) buffer[c] = c < cols ? row(0, c) : S{};
    return buffer;
  }

  const LinearBackwardArgs& args_;
  View<S> dy_;
  const S* kept_;
  i64 first_ = 0;
  Axis outputs_;
  Keeper keeper_;
  T scale_, rescale_;
  Form form_;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
