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

// The indices of an axis that take part. A product is compiled for both kinds, so no loop tests which one it has.
class AllIndices {
 public:
  static constexpr bool all = true;
  explicit AllIndices(i64 size) : size_(size) {}
  FD_FN i64 count() const { return size_; }
  FD_FN const i64* index() const { return nullptr; }
  FD_FN i64 at(i64 j) const { return j; }
  FD_FN Range original_range(i64 j, i64 n) const { return {j, j + n}; }

 private:
  i64 size_;
};

class ActiveIndices {
 public:
  static constexpr bool all = false;
  ActiveIndices(const ActiveColumns& active, i64 size) : active_(active), size_(size) {}
  FD_FN i64 size() const { return size_; }
  FD_FN i64 count() const { return active_.count; }
  FD_FN const i64* index() const { return active_.index; }
  FD_FN i64 at(i64 j) const { return active_.index[j]; }
  // Original columns written for compact columns [j, j+n): the active ones and the inactive ones between them. The
  // range starts just after the previous active column, and the last range reaches to the end of the axis.
  Range original_range(i64 j, i64 n) const {
    return {j == 0 ? 0 : active_.index[j - 1] + 1, j + n >= active_.count ? size_ : active_.index[j + n - 1] + 1};
  }
  // Bit c: original index i + c is active. May read the spare word after the list.
  FD_FN u32 bits(i64 i) const {
    const u32* word = active_.words + i / kGroup;
    const u32 shift = static_cast<u32>(i % kGroup);
    return shift == 0 ? *word : *word >> shift | word[1] << (kGroup - shift);
  }

 private:
  ActiveColumns active_;
  i64 size_;
};

// Calls f with the indices of an axis of this size: where a call chooses between all and some.
template <class F>
FD_FN void with_indices(const ActiveColumns& active, i64 size, F f) {
  active.index == nullptr ? f(AllIndices(size)) : f(ActiveIndices(active, size));
}

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
FD_FN void compress_row(const ActiveIndices& axis, i64 j, i64 n, Value value, E* dst) {
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

// dst[r*ld + c] = src(at.i + r, active.at(at.j + c)) * factor, rounded to S. A row of dst needs room for W more than
// at.cols elements.
template <class S, class T = acc_t<S>>
void gather(const View<S>& src, const ActiveIndices& active, const Rect& at, T factor, S* dst, i64 ld) {
  using V = Vec<T>;
  const V scale(factor);
  for (i64 r = 0; r < at.rows; ++r, dst += ld) {
    const View<S> row(src.p + src.row(at.i + r), src.rs, src.cs);
    compress_row<V>(active, at.j, at.cols, [&](i64 c) { return load_row<V>(row, c, active.size()) * scale; }, dst);
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

// Rows of compact columns: row r is read at p + r*ld, up to W elements past its end. Inactive columns become `fill`.
template <class T>
struct CompactRows {
  const T* p;
  i64 ld, rows;
  T fill;
};

// Expands compact columns [j, j+n) of some rows: writes axis.original_range(j, n) of each row at out(r), with the fill
// value in inactive columns, and adds the row of the residual if there is one.
template <class S, class T = acc_t<S>, class Out>
FD_FN void expand_rows(const ActiveIndices& axis, Range columns, CompactRows<T> from, const View<S>* residual,
                       Out out) {
  using V = Vec<T>;
  const Range range = axis.original_range(columns.begin, columns.size());
  for (i64 i = range.begin; i < range.end; i += V::W) {
    const i64 width = minimum(V::W, range.end - i);
    const u32 bits = axis.bits(i) & low_bits(width);
    for (i64 r = 0; r < from.rows; ++r) {
      V v = select(V::lanes(bits), expand(bits, V::load(from.p + r * from.ld)), V(from.fill));
      if (residual != nullptr) v = load_row<V>(residual->at(r, 0), i, axis.size()) + v;
      store_first(v, width, out(r) + i);
    }
    from.p += __builtin_popcount(bits);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
