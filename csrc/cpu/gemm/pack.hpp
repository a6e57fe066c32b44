// pack: copies a strided operand into the order in which the register tile reads it; bfloat16 is widened.
//
//   pack_rows    dst[r*ld + c] = src(i + r, j + c)                  a block that keeps its row order
//   pack_panels  dst[(p*depth + k)*NR + c] = src(k, p*NR + c)       panels of NR columns, padded with zeros
//
// With unit column stride, rows are copied; with unit row stride, W x W blocks are transposed in registers; other
// strides are copied element by element. Tails too, so nothing is read past the last element of an operand.
#pragma once

#include "core/params/matrix.hpp"
#include "cpu/gemm/mask_bits.hpp"
#include "cpu/gemm/tile.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct View {  // element (i, j) is p[row(i) + col(j)]
  const S* p;
  i64 rs, cs;
  const i64 *rows = nullptr, *cols = nullptr;  // null: 0, 1, 2 ...; else lists of active rows or columns
  explicit View(const Matrix& m) : p(static_cast<const S*>(m.data)), rs(m.row_stride), cs(m.col_stride) {}
  View(const S* data, i64 row_stride, i64 col_stride) : p(data), rs(row_stride), cs(col_stride) {}
  View(const S* data, i64 row_stride, i64 col_stride, const i64* row_index, const i64* col_index)
      : p(data), rs(row_stride), cs(col_stride), rows(row_index), cols(col_index) {}
  FD_FN i64 row(i64 i) const { return (rows == nullptr ? i : rows[i]) * rs; }
  FD_FN i64 col(i64 j) const { return (cols == nullptr ? j : cols[j]) * cs; }
  View at(i64 i, i64 j) const {
    return View(p + (rows == nullptr ? i * rs : 0) + (cols == nullptr ? j * cs : 0), rs, cs,
                rows == nullptr ? nullptr : rows + i, cols == nullptr ? nullptr : cols + j);
  }
  View transposed() const { return View(p, cs, rs, cols, rows); }
  View with_rows(const i64* index) const { return View(p, rs, cs, index, cols); }
  S operator()(i64 i, i64 j) const { return p[row(i) + col(j)]; }
};

template <class From, class To>
FD_FN void copy_row(const From* src, i64 n, To* dst) {
  using V = Vec<acc_t<From>>;
  i64 c = 0;
  for (; c + V::W <= n; c += V::W) V::load(src + c).store(dst + c);
  for (; c < n; ++c) narrow(widen(src[c]), dst[c]);
}

// dst[r*ld + c] = src(r, c), where each column of src is contiguous: W x W blocks are transposed in registers.
template <class S, class T = acc_t<S>>
void transpose_block(const View<S>& src, i64 rows, i64 cols, T* dst, i64 ld) {
  constexpr int W = Vec<T>::W;
  const i64 r_full = rows / W * W, c_full = cols / W * W;
  for (i64 c = 0; c < c_full; c += W)
    for (i64 r = 0; r < r_full; r += W)
      transpose([&](int i) { return src.p + src.col(c + i) + r; }, dst + r * ld + c, ld);
  for (i64 r = 0; r < rows; ++r)
    for (i64 c = r < r_full ? c_full : 0; c < cols; ++c) dst[r * ld + c] = widen(src(r, c));
}

template <class S, class T = acc_t<S>>
void pack_rows(View<S> src, i64 rows, i64 cols, T* dst, i64 ld) {
  if (src.cs == 1 && src.cols == nullptr) {
    for (i64 r = 0; r < rows; ++r) copy_row(src.p + src.row(r), cols, dst + r * ld);
  } else if (src.rs == 1 && src.rows == nullptr) {
    transpose_block(src, rows, cols, dst, ld);
  } else {
    for (i64 r = 0; r < rows; ++r)
      for (i64 c = 0; c < cols; ++c) dst[r * ld + c] = widen(src(r, c));
  }
}

template <int NR, class S, class T = acc_t<S>>
void pack_panels(View<S> src, i64 depth, i64 cols, T* dst) {
  for (i64 j = 0; j < cols; j += NR, dst += depth * NR) {
    const i64 n = minimum(cols - j, NR);
    if (n < NR)
      for (i64 i = 0; i < depth * NR; ++i) dst[i] = T(0);
    pack_rows(src.at(0, j), depth, n, dst, NR);
  }
}

// Dropout of the packed block of `at` in place: block(r, c) = keep ? block(r, c) * scale : 0, with the mask at
// (at.i + r, at.j + c). The rows of the block must have room for whole vectors; elements beyond at.cols are never used.
template <class E>
void drop_rows(const MaskBits& mask_bits, const Rect& at, E* block, i64 ld, u32* words) {
  using T = acc_t<E>;
  using V = Vec<T>;
  if (mask_bits.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(mask_bits.mask().threshold))), zero(T(0));
  for (i64 s = 0; s < at.cols; s += kGroup) {
    const i64 n = minimum(at.cols - s, kGroup);
    mask_bits.strip(at.i, at.rows, at.j + s, words);
    for (i64 r = 0; r < at.rows; ++r) {
      E* p = block + r * ld + s;
      for (i64 c = 0; c < n; c += V::W) select(V::lanes(words[r] >> c), V::load(p + c) * scale, zero).store(p + c);
    }
  }
}

// Dropout of the panels of one strip in place. The mask has a row for each k.
template <int NR, class T>
void drop_panels(const MaskBits& mask_bits, const Rect& at, T* panels, u32* words) {
  using V = Vec<T>;
  if (mask_bits.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(mask_bits.mask().threshold))), zero(T(0));
  mask_bits.strip(at.i, at.rows, at.j, words);
  for (i64 c = 0; c < at.cols; c += NR) {
    T* p = panels + c * at.rows;
    for (i64 k = 0; k < at.rows; ++k, p += NR)
      for (int v = 0; v < NR; v += V::W)
        select(V::lanes(words[k] >> (c + v)), V::load(p + v) * scale, zero).store(p + v);
  }
}

// The packing functions for arrays of S. K counts elements; LDA is the row stride of a packed A.
template <class S>
struct Packer {
  using T = acc_t<S>;
  static constexpr int NR = Tiling<T>::NR;
  static constexpr i64 LDA = Tiling<T>::LDA;

  static void rows(View<S> src, i64 rows, i64 K, T* dst) { pack_rows(src, rows, K, dst, LDA); }
  static void panels(View<S> src, i64 K, i64 cols, T* dst) { pack_panels<NR>(src, K, cols, dst); }
  static void drop_rows(const MaskBits& mask_bits, const Rect& at, T* block, u32* words) {
    FD_ISA::drop_rows(mask_bits, at, block, LDA, words);
  }
  static void drop_panels(const MaskBits& mask_bits, const Rect& at, T* panels, u32* words) {
    FD_ISA::drop_panels<NR>(mask_bits, at, panels, words);
  }
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
