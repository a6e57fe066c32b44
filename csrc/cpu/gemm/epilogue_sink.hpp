// epilogue_sink: runs the epilogue of the forward pass on each complete tile, and stores y and z.
#pragma once

#include "core/epilogue.hpp"
#include "core/params/epilogue.hpp"
#include "cpu/gemm/active_columns.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct EpilogueArrays {
  S* y;  // row stride ld
  S* z;  // the same, or null
  i64 ld;
  Matrix residual{};  // null data: none
};

// The sink of the forward product. For each tile it adds the bias, applies activation, mask and scale, adds the
// residual and stores the result. Columns of y that are not in `outputs` get the value of dropped columns.
template <class S, class Outputs>
class EpilogueSink : public TileSink {
 public:
  using T = acc_t<S>;
  static constexpr bool holds_sums = std::is_same_v<S, T> && Outputs::all;

  // `words` has room for the keep bits of a strip. The mask of `params` is replaced by mask_bits.
  EpilogueSink(const EpilogueParams& params, const EpilogueArrays<S>& arrays, const Outputs& outputs,
               const MaskBits& mask_bits, u32* words)
      : params_(params),
        arrays_(arrays),
        outputs_(outputs),
        mask_bits_(mask_bits),
        words_(words),
        scale_(static_cast<T>(keep_scale(mask_bits.mask().threshold))) {
    with_activation(params.activation, [&](auto act) { choose<decltype(act)>(); });
  }

  S* c() { return arrays_.y; }
  i64 ld() const { return arrays_.ld; }
  void prefetch(const Rect& at) const {
    const Range range = outputs_.original_range(at.j, at.cols);
    prefetch_tile(arrays_.y + at.i * arrays_.ld + range.begin, arrays_.ld, at.rows, range.size());
  }

  void begin_strip(const Rect& strip) {
    strip_row_ = strip.i;
    strip_col_ = strip.j;
    if constexpr (Outputs::all) mask_bits_.strip(strip.i, strip.rows, strip.j, words_);
    const S* b = static_cast<const S*>(params_.b);
    for (i64 c = 0; c < kGroup; ++c)
      bias_[c] = b != nullptr && c < strip.cols ? widen(b[outputs_.at(strip.j + c) * params_.b_stride]) : T(0);
  }

  void epilogue(const Rect& at, const T* tile) { tile_epilogue_(*this, at, tile); }

  // Writes all of y, for unit dropout that drops every column.
  void fill(Range rows) const { write_rows({rows.begin, rows.size(), 0, 0}, no_columns_, no_columns_, 0); }

 private:
  template <class Act>
  void choose() {
    if constexpr (Outputs::all) {
      tile_epilogue_ = &EpilogueSink::epilogue_tile<Act>;
    } else {
      tile_epilogue_ = &EpilogueSink::epilogue_compact<Act>;
      T lanes[Vec<T>::W];
      Act::forward(Vec<T>(T(0))).store(lanes);
      fill_ = params_.dropout_first ? lanes[0] : T(0);
    }
  }

  template <class Act>
  static void epilogue_tile(EpilogueSink& s, const Rect& at, const T* tile) {
    constexpr int NR = Tiling<T>::NR;
    const EpilogueArrays<S>& arrays = s.arrays_;
    S row[NR], z_row[NR], residual[NR];
    for (i64 r = 0; r < at.rows; ++r, tile += NR) {
      const i64 i = at.i + r, offset = i * arrays.ld + at.j;
      const bool whole = at.cols == NR;
      S* y = whole ? arrays.y + offset : row;
      S* z = arrays.z == nullptr ? nullptr : whole ? arrays.z + offset : z_row;
      const S* add = s.residual_row(i, at.j, at.cols, residual);
      const u32 word = s.words_[i - s.strip_row_] >> (at.j - s.strip_col_);
      s.template epilogue_row<Act>(tile, word, s.bias_ + (at.j - s.strip_col_), add, y, z);
      if (whole) continue;
      copy_row(row, at.cols, arrays.y + offset);
      if (z != nullptr) copy_row(z_row, at.cols, arrays.z + offset);
    }
  }

  // The columns of the tile are active columns. First all elements are computed; then expand_rows writes them to y,
  // with the dropped columns between them. Two passes, because the second loads rows at unaligned positions: such a
  // load must wait until the aligned vectors that were just stored have left the store buffer.
  template <class Act>
  static void epilogue_compact(EpilogueSink& s, const Rect& at, const T* tile) {
    using V = Vec<T>;
    constexpr int NR = Tiling<T>::NR, kRoom = NR + V::W;
    const V scale(s.scale_);
    alignas(64) T y[Tiling<T>::MR * kRoom], z[Tiling<T>::MR * kRoom];
    for (i64 r = 0; r < at.rows; ++r)
      for (int c = 0; c < NR; c += V::W) {
        const V sum = V::load(tile + r * NR + c) + V::load(s.bias_ + (at.j - s.strip_col_) + c);
        if (s.arrays_.z != nullptr) sum.store(z + r * kRoom + c);
        Epilogue<Act>::forward(sum, V::lanes(~0u), scale, s.params_.dropout_first).store(y + r * kRoom + c);
      }
    s.write_rows(at, y, z, kRoom);
  }

  void write_rows(const Rect& at, const T* y, const T* z, i64 ld) const {
    const View<S> residual = View<S>(arrays_.residual).at(at.i, 0);
    const auto row_of = [&](S* array) { return [=](i64 r) { return array + (at.i + r) * arrays_.ld; }; };
    const View<S>* add = arrays_.residual.data == nullptr ? nullptr : &residual;
    const Range columns{at.j, at.j + at.cols};
    expand_rows<S>(outputs_, columns, {y, ld, at.rows, fill_}, add, row_of(arrays_.y));
    if (arrays_.z != nullptr) expand_rows<S>(outputs_, columns, {z, ld, at.rows, T(0)}, nullptr, row_of(arrays_.z));
  }

  template <class Act>
  FD_FN void epilogue_row(const T* tile, u32 word, const T* bias, const S* add, S* y, S* z) const {
    using V = Vec<T>;
    const V scale(scale_);
#pragma GCC unroll 4
    for (int c = 0; c < Tiling<T>::NR; c += V::W) {
      const V sum = V::load(tile + c) + V::load(bias + c);
      if (z != nullptr) sum.store(z + c);
      V result = Epilogue<Act>::forward(sum, V::lanes(word >> c), scale, params_.dropout_first);
      if (add != nullptr) result = V::load(add + c) + result;
      result.store(y + c);
    }
  }

  const S* residual_row(i64 i, i64 j, i64 cols, S* buffer) const {
    if (arrays_.residual.data == nullptr) return nullptr;
    const View<S> residual = View<S>(arrays_.residual).at(i, j);
    if (residual.cs == 1 && cols == Tiling<T>::NR) return residual.p;
    for (i64 c = 0; c < Tiling<T>::NR; ++c) buffer[c] = c < cols ? residual(0, c) : S{};
    return buffer;
  }

  static constexpr T no_columns_[Vec<T>::W] = {};
  const EpilogueParams& params_;
  const EpilogueArrays<S> arrays_;
  const Outputs outputs_;
  const MaskBits& mask_bits_;
  u32* words_;
  T scale_, fill_ = T(0);  // fill_: value of dropped columns, 0, or act(0) where dropout comes first
  void (*tile_epilogue_)(EpilogueSink&, const Rect& at, const T* tile) = nullptr;
  i64 strip_row_ = 0, strip_col_ = 0;
  alignas(64) T bias_[kGroup];
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
