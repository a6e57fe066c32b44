// epilogue_sink: runs the epilogue of the forward pass on each complete tile, and stores y and z.
#pragma once

#include "core/params/linear.hpp"
#include "cpu/gemm/active_columns.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The sink of the forward product. For each tile it adds the bias, applies activation, mask and scale, adds the
// residual and stores the result. `fill` is the value of dropped columns.
template <class S>
class EpilogueSink {
 public:
  using T = acc_t<S>;
  using TileEpilogue = void (*)(EpilogueSink&, i64 i, i64 rows, i64 j, i64 cols, const T* tile);

  EpilogueSink(const LinearForwardArgs& args, const MaskBits& mask_bits, TileEpilogue tile_epilogue, T fill, u32* words)
      : args_(args),
        outputs_(args.outputs, args.N),
        mask_bits_(mask_bits),
        tile_epilogue_(tile_epilogue),
        words_(words),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))),
        fill_(fill) {}

  bool holds_sums() const { return std::is_same_v<S, T> && outputs_.all(); }
  void prefetch(i64 i, i64 rows, i64 j, i64 cols) const {
    const Range range = outputs_.original_range(j, cols);
    prefetch_tile(static_cast<const S*>(args_.y) + i * args_.N + range.begin, args_.N, rows, range.size());
  }

  S* c() { return static_cast<S*>(args_.y); }
  i64 ld() const { return args_.N; }

  void begin_strip(i64 i, i64 rows, i64 j, i64 cols) {
    strip_row_ = i;
    strip_col_ = j;
    if (outputs_.all()) mask_bits_.strip(i, rows, j, words_);
    const S* b = static_cast<const S*>(args_.b);
    for (i64 c = 0; c < kGroup; ++c)
      bias_[c] = b != nullptr && c < cols ? widen(b[outputs_.at(j + c) * args_.b_stride]) : T(0);
  }

  void epilogue(i64 i, i64 rows, i64 j, i64 cols, const T* tile) { tile_epilogue_(*this, i, rows, j, cols, tile); }

  template <class Act>
  static void epilogue_tile(EpilogueSink& s, i64 i, i64 rows, i64 j, i64 cols, const T* tile) {
    if (!s.outputs_.all()) return s.template epilogue_compact<Act>(i, rows, j, cols, tile);
    constexpr int NR = Tiling<T>::NR;
    S row[NR], z_row[NR], residual[NR];
    for (i64 r = 0; r < rows; ++r, tile += NR) {
      const i64 at = (i + r) * s.args_.N + j;
      const bool whole = cols == NR;
      S* y = whole ? s.c() + at : row;
      S* z = s.args_.z == nullptr ? nullptr : whole ? static_cast<S*>(s.args_.z) + at : z_row;
      const S* add = s.residual_row(i + r, j, cols, residual);
      s.template epilogue_row<Act>(tile, s.words_[i + r - s.strip_row_] >> (j - s.strip_col_), j - s.strip_col_, add, y,
                                   z);
      if (whole) continue;
      copy_row(row, cols, s.c() + at);
      if (z != nullptr) copy_row(z_row, cols, static_cast<S*>(s.args_.z) + at);
    }
  }

  // Writes all of y, for unit dropout that drops every column.
  void fill(Range rows) const { write_rows(rows.begin, rows.size(), 0, 0, no_columns_, no_columns_, 0); }

 private:
  // The columns of the tile are active columns. First all elements are computed; then expand_rows writes them to y,
  // with the dropped columns between them. Two passes, because the second loads rows at unaligned positions: such a
  // load must wait until the aligned vectors that were just stored have left the store buffer.
  template <class Act>
  void epilogue_compact(i64 i, i64 rows, i64 j, i64 cols, const T* tile) const {
    using V = Vec<T>;
    constexpr int NR = Tiling<T>::NR, kRoom = NR + V::W;
    const V scale(scale_);
    alignas(64) T y[Tiling<T>::MR * kRoom], z[Tiling<T>::MR * kRoom];
    for (i64 r = 0; r < rows; ++r)
      for (int c = 0; c < NR; c += V::W) {
        const V sum = V::load(tile + r * NR + c) + V::load(bias_ + (j - strip_col_) + c);
        if (args_.z != nullptr) sum.store(z + r * kRoom + c);
        Epilogue<Act>::forward(sum, V::lanes(~0u), scale, args_.dropout_first).store(y + r * kRoom + c);
      }
    write_rows(i, rows, j, cols, y, z, kRoom);
  }

  void write_rows(i64 i, i64 rows, i64 j, i64 cols, const T* y, const T* z, i64 ld) const {
    const View<S> residual = View<S>(args_.residual).at(i, 0);
    const auto row_of = [&](void* array) { return [=](i64 r) { return static_cast<S*>(array) + (i + r) * args_.N; }; };
    const View<S>* add = args_.residual.data == nullptr ? nullptr : &residual;
    expand_rows(outputs_, j, cols, rows, y, ld, fill_, add, row_of(args_.y));
    if (args_.z != nullptr) expand_rows<S>(outputs_, j, cols, rows, z, ld, T(0), nullptr, row_of(args_.z));
  }

  template <class Act>
  FD_FN void epilogue_row(const T* tile, u32 word, i64 offset, const S* add, S* y, S* z) const {
    using V = Vec<T>;
    const V scale(scale_);
#pragma GCC unroll 4
    for (int c = 0; c < Tiling<T>::NR; c += V::W) {
      const V sum = V::load(tile + c) + V::load(bias_ + offset + c);
      if (z != nullptr) sum.store(z + c);
      V result = Epilogue<Act>::forward(sum, V::lanes(word >> c), scale, args_.dropout_first);
      if (add != nullptr) result = V::load(add + c) + result;
      result.store(y + c);
    }
  }

  const S* residual_row(i64 i, i64 j, i64 cols, S* buffer) const {
    if (args_.residual.data == nullptr) return nullptr;
    const View<S> residual = View<S>(args_.residual).at(i, j);
    if (residual.cs == 1 && cols == Tiling<T>::NR) return residual.p;
    for (i64 c = 0; c < Tiling<T>::NR; ++c) buffer[c] = c < cols ? residual(0, c) : S{};
    return buffer;
  }

  static constexpr T no_columns_[Vec<T>::W] = {};
  const LinearForwardArgs& args_;
  ActiveAxis outputs_;
  const MaskBits& mask_bits_;
  TileEpilogue tile_epilogue_;
  u32* words_;
  T scale_, fill_;
  i64 strip_row_ = 0, strip_col_ = 0;
  alignas(64) T bias_[kGroup];
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
