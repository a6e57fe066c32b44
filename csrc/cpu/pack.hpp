// pack: copies of a strided operand in the order the micro-kernel reads it, widened where it is bfloat16.
//
//   pack_rows    dst[r*ld + c] = src(i + r, j + c)                  a block that keeps its rows
//   pack_panels  dst[(p*depth + k)*NR + c] = src(k, p*NR + c)       panels of NR columns, padded with zeros
//
// A unit column stride copies rows, a unit row stride transposes W x W blocks in registers, anything else gathers.
// Tails are copied one by one: nothing is read past an operand's last element.
#pragma once

#include "core/args.hpp"
#include "cpu/keep.hpp"
#include "cpu/micro.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct View {  // element (i, j) at p[i*rs + j*cs]
  const S* p;
  i64 rs, cs;
  explicit View(const Matrix& m) : p(static_cast<const S*>(m.data)), rs(m.row_stride), cs(m.col_stride) {}
  View(const S* data, i64 row_stride, i64 col_stride) : p(data), rs(row_stride), cs(col_stride) {}
  View at(i64 i, i64 j) const { return View(p + i * rs + j * cs, rs, cs); }
  View transposed() const { return View(p, cs, rs); }
  S operator()(i64 i, i64 j) const { return p[i * rs + j * cs]; }
};

template <class From, class To>
FD_FN void copy_row(const From* src, i64 n, To* dst) {
  using V = Vec<sum_of<From>>;
  i64 c = 0;
  for (; c + V::W <= n; c += V::W) V::load(src + c).store(dst + c);
  for (; c < n; ++c) narrow(widen(src[c]), dst[c]);
}

// dst[j*ldd + i] = src[i*ld + j] for an m x n block.
template <class S, class T = sum_of<S>>
void transpose_block(const S* src, i64 ld, i64 m, i64 n, T* dst, i64 ldd) {
  constexpr int W = Vec<T>::W;
  const i64 m_full = m / W * W, n_full = n / W * W;
  for (i64 i = 0; i < m_full; i += W) {
    for (i64 j = 0; j < n_full; j += W) transpose(src + i * ld + j, ld, dst + j * ldd + i, ldd);
    for (i64 j = n_full; j < n; ++j)
      for (i64 r = i; r < i + W; ++r) dst[j * ldd + r] = widen(src[r * ld + j]);
  }
  for (i64 i = m_full; i < m; ++i)
    for (i64 j = 0; j < n; ++j) dst[j * ldd + i] = widen(src[i * ld + j]);
}

template <class S, class T = sum_of<S>>
void pack_rows(View<S> src, i64 rows, i64 cols, T* dst, i64 ld) {
  if (src.cs == 1) {
    for (i64 r = 0; r < rows; ++r) copy_row(src.p + r * src.rs, cols, dst + r * ld);
  } else if (src.rs == 1) {
    transpose_block(src.p, src.cs, cols, rows, dst, ld);
  } else {
    for (i64 r = 0; r < rows; ++r)
      for (i64 c = 0; c < cols; ++c) dst[r * ld + c] = widen(src(r, c));
  }
}

template <int NR, class S, class T = sum_of<S>>
void pack_panels(View<S> src, i64 depth, i64 cols, T* dst) {
  for (i64 j = 0; j < cols; j += NR, dst += depth * NR) {
    const i64 n = cols - j < NR ? cols - j : NR;
    if (n < NR)
      for (i64 i = 0; i < depth * NR; ++i) dst[i] = T(0);
    pack_rows(src.at(0, j), depth, n, dst, NR);
  }
}

// Dropout of a packed block in place: block(r, c) = kept ? block(r, c) * scale : 0, with the mask at (i + r, j + c).
// Rows of the block have room for whole packs: what lies beyond `cols` is never used.
template <class E>
void drop_rows(const Keeper& keeper, i64 i, i64 rows, i64 j, i64 cols, E* block, i64 ld, u32* words) {
  using T = sum_of<E>;
  using V = Vec<T>;
  if (keeper.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(keeper.mask().threshold))), zero(T(0));
  for (i64 s = 0; s < cols; s += kGroup) {
    const i64 n = cols - s < kGroup ? cols - s : kGroup;
    keeper.strip(i, rows, j + s, words);
    for (i64 r = 0; r < rows; ++r) {
      E* p = block + r * ld + s;
      for (i64 c = 0; c < n; c += V::W) select(V::lanes(words[r] >> c), V::load(p + c) * scale, zero).store(p + c);
    }
  }
}

// The same for the panels of one strip.
template <int NR, class T>
void drop_panels(const Keeper& keeper, i64 i, i64 depth, i64 j, i64 cols, T* panels, u32* words) {
  using V = Vec<T>;
  if (keeper.keeps_all()) return;
  const V scale(static_cast<T>(keep_scale(keeper.mask().threshold))), zero(T(0));
  keeper.strip(i, depth, j, words);
  for (i64 c = 0; c < cols; c += NR) {
    T* p = panels + c * depth;
    for (i64 k = 0; k < depth; ++k, p += NR)
      for (int v = 0; v < NR; v += V::W)
        select(V::lanes(words[k] >> (c + v)), V::load(p + v) * scale, zero).store(p + v);
  }
}

// What the kernels call, by the type that arrays store. K counts elements; A's rows are LDA apart.
template <class S>
struct Packer {
  using T = sum_of<S>;
  static constexpr int NR = Tiling<T>::NR;
  static constexpr i64 LDA = Tiling<T>::LDA;

  static void rows(View<S> src, i64 rows, i64 K, T* dst) { pack_rows(src, rows, K, dst, LDA); }
  static void panels(View<S> src, i64 K, i64 cols, T* dst) { pack_panels<NR>(src, K, cols, dst); }
  static void drop_rows(const Keeper& keeper, i64 i, i64 rows, i64 k, i64 K, T* block, u32* words) {
    FD_ISA::drop_rows(keeper, i, rows, k, K, block, LDA, words);
  }
  static void drop_panels(const Keeper& keeper, i64 k, i64 K, i64 j, i64 cols, T* panels, u32* words) {
    FD_ISA::drop_panels<NR>(keeper, k, K, j, cols, panels, words);
  }
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
