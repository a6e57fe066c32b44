// kept: axes of which only some indices count, as unit dropout leaves them, and how rows shrink to those and grow again.
//
//   compact coordinate j    the j-th kept index          original coordinate index[j]
//
// Columns that are not kept take part in no sum (packs that are loaded whole discard them); where they are written they get a
// constant.
#pragma once

#include "core/args.hpp"
#include "cpu/gemm.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// A Kept list with the size of its axis; a list that is absent keeps everything.
class Axis {
 public:
  Axis() = default;
  Axis(const Kept& kept, i64 size) : kept_(kept), size_(size) {}
  bool all() const { return kept_.index == nullptr; }
  i64 size() const { return size_; }
  i64 count() const { return all() ? size_ : kept_.count; }
  const i64* index() const { return kept_.index; }
  FD_FN i64 at(i64 j) const { return all() ? j : kept_.index[j]; }
  // The original range that compact j .. j+n-1 answer for: theirs, and what was dropped before them or after the last.
  Range owned(i64 j, i64 n) const {
    if (all()) return {j, j + n};
    return {j == 0 ? 0 : kept_.index[j - 1] + 1, j + n >= kept_.count ? size_ : kept_.index[j + n - 1] + 1};
  }
  // Bit c: original index i + c is kept; for a list, not for all(). The words end with a spare one.
  FD_FN u32 bits(i64 i) const {
    const u32* word = kept_.words + i / kGroup;
    const u32 shift = static_cast<u32>(i % kGroup);
    return shift == 0 ? *word : *word >> shift | word[1] << (kGroup - shift);
  }

 private:
  Kept kept_;
  i64 size_ = 0;
};

FD_FN u32 low_bits(i64 n) { return n >= 32 ? ~0u : (u32{1} << n) - 1; }

#if FD_ISA_LEVEL < 2  // AVX-512 has instructions for both
// The lanes whose bits are set, moved to the front; the rest is unspecified.
template <class V>
FD_FN V compress(u32 bits, V v) {
  scalar_of<V> in[V::W], out[V::W] = {};
  v.store(in);
  int n = 0;
  for (int c = 0; c < V::W; ++c) {
    out[n] = in[c];
    n += static_cast<int>(bits >> c & 1);
  }
  return V::load(out);
}

// The reverse: front lanes to the places whose bits are set, 0 elsewhere.
template <class V>
FD_FN V expand(u32 bits, V v) {
  scalar_of<V> in[V::W], out[V::W];
  v.store(in);
  int n = 0;
  for (int c = 0; c < V::W; ++c) {
    const bool set = (bits >> c & 1) != 0;
    out[c] = set ? in[n] : scalar_of<V>(0);
    n += set;
  }
  return V::load(out);
}
#endif

// Compact elements j .. j+n-1 of a row, one after the other at dst. `value(i)` gives the pack of original columns i .. i+W-1,
// of which the kept lanes are taken. Writes up to W - 1 elements beyond dst[n - 1].
template <class V, class Value, class E>
FD_FN void compress_row(const Axis& axis, i64 j, i64 n, Value value, E* dst) {
  if (n == 0) return;
  const i64 end = axis.at(j + n - 1) + 1;
  for (i64 i = axis.at(j); i < end; i += V::W) {
    const u32 bits = axis.bits(i) & low_bits(minimum(V::W, end - i));
    compress(bits, value(i)).store(dst);
    dst += __builtin_popcount(bits);
  }
}

// W elements of a row from column i on, or those up to its end.
template <class V, class S>
FD_FN V load_row(const View<S>& row, i64 i, i64 size) {
  if (row.cs == 1 && i + V::W <= size) return V::load(row.p + i);
  S padded[V::W] = {};
  for (i64 c = 0; c < V::W && i + c < size; ++c) padded[c] = row(0, i + c);
  return V::load(padded);
}

// Of a list of columns: dst[r*ld + c] = src(rows.at(i + r), cols.at(j + c)) * factor, rounded where S is; `ld` has room for W more than n_cols.
template <class S, class T = sum_of<S>>
void gather(const View<S>& src, const Axis& rows, i64 i, i64 n_rows, const Axis& cols, i64 j, i64 n_cols, T factor,
            S* dst, i64 ld) {
  using V = Vec<T>;
  const V scale(factor);
  for (i64 r = 0; r < n_rows; ++r, dst += ld) {
    const View<S> row = src.at(rows.at(i + r), 0);
    compress_row<V>(cols, j, n_cols, [&](i64 c) { return load_row<V>(row, c, cols.size()) * scale; }, dst);
  }
}

// The first n lanes.
template <class V, class S>
FD_FN void store_first(V v, i64 n, S* out) {
  if (n == V::W) return v.store(out);
#if FD_ISA_LEVEL == 2
  if constexpr (std::is_same_v<V, VecF> && std::is_same_v<S, float>)
    return _mm512_mask_storeu_ps(out, static_cast<__mmask16>(low_bits(n)), v.v);
#endif
  S part[V::W];
  v.store(part);
  for (i64 c = 0; c < n; ++c) out[c] = part[c];
}

// Spreads compact rows of n columns over the columns of `out` that compact j .. j+n-1 own, `fill` where nothing was kept,
// plus the residual's row where there is one. Row r lies at compact + r*ld, readable for W elements more, and at out(r).
template <class S, class T = sum_of<S>, class Out>
FD_FN void expand_rows(const Axis& axis, i64 j, i64 n, i64 rows, const T* compact, i64 ld, T fill,
                       const View<S>* residual, Out out) {
  using V = Vec<T>;
  const Range range = axis.owned(j, n);
  for (i64 i = range.begin; i < range.end; i += V::W) {
    const i64 width = minimum(V::W, range.end - i);
    const u32 bits = axis.bits(i) & low_bits(width);
    for (i64 r = 0; r < rows; ++r) {
      V v = select(V::lanes(bits), expand(bits, V::load(compact + r * ld)), V(fill));
      if (residual != nullptr) v = load_row<V>(residual->at(r, 0), i, axis.size()) + v;
      store_first(v, width, out(r) + i);
    }
    compact += __builtin_popcount(bits);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
