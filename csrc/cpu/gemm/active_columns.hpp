// active_columns: products that use only some rows or columns of a matrix, the active ones. Unit dropout needs them.
// Rows are compressed to the active columns before a product, and the result is expanded again.
//
//   compact coordinate j  =  the j-th active index  =  original coordinate index[j]
//
// Inactive columns take part in no sum: vectors are loaded whole, and their inactive lanes are discarded. Where
// inactive columns are written, they get a constant.
#pragma once

#include "core/params/matrix.hpp"
#include "cpu/gemm/loops.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// A list of active indices with the size of its axis. Without a list, all indices are active.
class ActiveAxis {
 public:
  ActiveAxis() = default;
  ActiveAxis(const ActiveColumns& active, i64 size) : active_(active), size_(size) {}
  bool all() const { return active_.index == nullptr; }
  i64 size() const { return size_; }
  i64 count() const { return all() ? size_ : active_.count; }
  const i64* index() const { return active_.index; }
  FD_FN i64 at(i64 j) const { return all() ? j : active_.index[j]; }
  // Original columns written for compact columns [j, j+n): the active ones and the inactive ones between them. The
  // range starts just after the previous active column, and the last range reaches to the end of the axis.
  Range original_range(i64 j, i64 n) const {
    if (all()) return {j, j + n};
    return {j == 0 ? 0 : active_.index[j - 1] + 1, j + n >= active_.count ? size_ : active_.index[j + n - 1] + 1};
  }
  // Bit c: original index i + c is active. Only for a list, not for all(). May read the spare word after the list.
  FD_FN u32 bits(i64 i) const {
    const u32* word = active_.words + i / kGroup;
    const u32 shift = static_cast<u32>(i % kGroup);
    return shift == 0 ? *word : *word >> shift | word[1] << (kGroup - shift);
  }

 private:
  ActiveColumns active_;
  i64 size_ = 0;
};

FD_FN u32 low_bits(i64 n) { return n >= 32 ? ~0u : (u32{1} << n) - 1; }

#if FD_ISA_LEVEL < 2  // AVX-512 has instructions for both
// Moves the lanes whose bits are set to the front; the other lanes are unspecified.
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

// The reverse: moves the front lanes to the lanes whose bits are set; the other lanes become 0.
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

// Writes compact elements j .. j+n-1 of a row to dst[0 .. n-1]. value(i) gives the vector of original columns i ..
// i+W-1, from which the active lanes are taken. Writes up to W - 1 elements beyond dst[n - 1].
template <class V, class Value, class E>
FD_FN void compress_row(const ActiveAxis& axis, i64 j, i64 n, Value value, E* dst) {
  if (n == 0) return;
  const i64 end = axis.at(j + n - 1) + 1;
  for (i64 i = axis.at(j); i < end; i += V::W) {
    const u32 bits = axis.bits(i) & low_bits(minimum(V::W, end - i));
    compress(bits, value(i)).store(dst);
    dst += __builtin_popcount(bits);
  }
}

// A vector of W elements of a row from column i on, padded with zeros beyond `size`.
template <class V, class S>
FD_FN V load_row(const View<S>& row, i64 i, i64 size) {
  if (row.cs == 1 && i + V::W <= size) return V::load(row.p + i);
  S padded[V::W] = {};
  for (i64 c = 0; c < V::W && i + c < size; ++c) padded[c] = row(0, i + c);
  return V::load(padded);
}

// dst[r*ld + c] = src(rows.at(i + r), cols.at(j + c)) * factor, rounded to S. `cols` is a list, not all(). A row of dst
// needs room for W more than n_cols elements.
template <class S, class T = acc_t<S>>
void gather(const View<S>& src, const ActiveAxis& rows, i64 i, i64 n_rows, const ActiveAxis& cols, i64 j, i64 n_cols,
            T factor, S* dst, i64 ld) {
  using V = Vec<T>;
  const V scale(factor);
  for (i64 r = 0; r < n_rows; ++r, dst += ld) {
    const View<S> row = src.at(rows.at(i + r), 0);
    compress_row<V>(cols, j, n_cols, [&](i64 c) { return load_row<V>(row, c, cols.size()) * scale; }, dst);
  }
}

// Stores the first n lanes.
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

// Expands compact columns [j, j+n) of some rows: writes axis.original_range(j, n) of each row of `out`, with `fill` in
// inactive columns, and adds the row of the residual if there is one. Row r is read at compact + r*ld, up to W elements
// past its end, and written at out(r).
template <class S, class T = acc_t<S>, class Out>
FD_FN void expand_rows(const ActiveAxis& axis, i64 j, i64 n, i64 rows, const T* compact, i64 ld, T fill,
                       const View<S>* residual, Out out) {
  using V = Vec<T>;
  const Range range = axis.original_range(j, n);
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
