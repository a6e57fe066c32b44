// pack: copies of a strided operand in the order the micro-kernel reads it.
//
//   pack_rows    dst[r*ld + c] = src(i + r, j + c)                  a block that keeps its rows
//   pack_panels  dst[(p*depth + k)*NR + c] = src(k, p*NR + c)       panels of NR columns, padded with zeros
//
// A unit column stride copies rows, a unit row stride transposes W x W blocks in registers, anything else gathers.
// Tails are copied one by one: nothing is read past an operand's last element.
#pragma once

#include "core/args.hpp"
#include "cpu/keep.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct View {  // element (i, j) at p[i*rs + j*cs]
  const T* p;
  i64 rs, cs;
  explicit View(const Matrix& m) : p(static_cast<const T*>(m.data)), rs(m.row_stride), cs(m.col_stride) {}
  View(const T* data, i64 row_stride, i64 col_stride) : p(data), rs(row_stride), cs(col_stride) {}
  View at(i64 i, i64 j) const { return View(p + i * rs + j * cs, rs, cs); }
  View transposed() const { return View(p, cs, rs); }
  T operator()(i64 i, i64 j) const { return p[i * rs + j * cs]; }
};

template <class T>
FD_FN void copy_row(const T* src, i64 n, T* dst) {
  using V = Vec<T>;
  i64 c = 0;
  for (; c + V::W <= n; c += V::W) V::load(src + c).store(dst + c);
  for (; c < n; ++c) dst[c] = src[c];
}

// dst[j*ldd + i] = src[i*ld + j] for an m x n block.
template <class T>
void transpose_block(const T* src, i64 ld, i64 m, i64 n, T* dst, i64 ldd) {
  constexpr int W = Vec<T>::W;
  const i64 m_full = m / W * W, n_full = n / W * W;
  for (i64 i = 0; i < m_full; i += W) {
    for (i64 j = 0; j < n_full; j += W) transpose(src + i * ld + j, ld, dst + j * ldd + i, ldd);
    for (i64 j = n_full; j < n; ++j)
      for (i64 r = i; r < i + W; ++r) dst[j * ldd + r] = src[r * ld + j];
  }
  for (i64 i = m_full; i < m; ++i)
    for (i64 j = 0; j < n; ++j) dst[j * ldd + i] = src[i * ld + j];
}

template <class T>
void pack_rows(View<T> src, i64 rows, i64 cols, T* dst, i64 ld) {
  if (src.cs == 1) {
    for (i64 r = 0; r < rows; ++r) copy_row(src.p + r * src.rs, cols, dst + r * ld);
  } else if (src.rs == 1) {
    transpose_block(src.p, src.cs, cols, rows, dst, ld);
  } else {
    for (i64 r = 0; r < rows; ++r)
      for (i64 c = 0; c < cols; ++c) dst[r * ld + c] = src(r, c);
  }
}

template <class T, int NR>
void pack_panels(View<T> src, i64 depth, i64 cols, T* dst) {
  for (i64 j = 0; j < cols; j += NR, dst += depth * NR) {
    const i64 n = cols - j < NR ? cols - j : NR;
    if (n < NR)
      for (i64 i = 0; i < depth * NR; ++i) dst[i] = T(0);
    pack_rows(src.at(0, j), depth, n, dst, NR);
  }
}

// Dropout of a packed block in place: block(r, c) = kept ? block(r, c) * scale : 0, with the mask at (i + r, j + c).
// The block's rows hold 32-column strips, zero or garbage beyond `cols`.
template <class T>
void drop_rows(const Keeper& keeper, i64 i, i64 rows, i64 j, i64 cols, T* block, i64 ld, u32* words) {
  using V = Vec<T>;
  if (keeper.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(keeper.mask().threshold))), zero(T(0));
  for (i64 s = 0; s < cols; s += kGroup) {
    const i64 n = cols - s < kGroup ? cols - s : kGroup;
    keeper.strip(i, rows, j + s, words);
    for (i64 r = 0; r < rows; ++r) {
      T* p = block + r * ld + s;
      i64 c = 0;
      for (; c + V::W <= n; c += V::W) select(V::lanes(words[r] >> c), V::load(p + c) * scale, zero).store(p + c);
      for (; c < n; ++c) p[c] = (words[r] >> c) & 1 ? p[c] * static_cast<T>(keep_scale(keeper.mask().threshold)) : T(0);
    }
  }
}

// The same for panels: strip s of the block lies in 32 / NR panels.
template <class T, int NR>
void drop_panels(const Keeper& keeper, i64 i, i64 depth, i64 j, i64 cols, T* panels, u32* words) {
  using V = Vec<T>;
  if (keeper.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(keeper.mask().threshold))), zero(T(0));
  for (i64 c = 0; c < cols; c += NR) {
    if (c % kGroup == 0) keeper.strip(i, depth, j + c, words);
    T* p = panels + c * depth;
    for (i64 k = 0; k < depth; ++k, p += NR)
      for (int v = 0; v < NR; v += V::W)
        select(V::lanes(words[k] >> (c % kGroup + v)), V::load(p + v) * scale, zero).store(p + v);
  }
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
