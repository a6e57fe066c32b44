// pack_bf16: the copies of cpu/gemm/pack.hpp for products of pairs of bfloat16. Element k of K is half k % 2 of k-step
// k / 2. If K is odd, the second half of the last pair is 0.
//
//   pack_pair_rows    row r of dst = row r of src, with the same bits
//   pack_pair_panels  dst[(p*depth + k/2)*NR + c] = (src(k, p*NR + c), src(k + 1, p*NR + c))
//   store_rows, store_row_pairs  round computed floats and store them as rows or as panels
#pragma once

#include "cpu/gemm/pack.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Uses memcpy and not a pointer to another type, because packed memory is an array of float for the compiler.
FD_FN void store_pair(bfloat16 first, bfloat16 second, float* dst) {
  const u32 bits = first.bits | static_cast<u32>(second.bits) << 16;
  std::memcpy(dst, &bits, sizeof bits);
}

// The pair of src(k, c) and src(k + 1, c), or 0 beyond the last element.
FD_FN void gather_pair(const View<bfloat16>& src, i64 k, i64 K, i64 c, float* dst) {
  store_pair(src(k, c), k + 1 < K ? src(k + 1, c) : bfloat16{0}, dst);
}

void pack_pair_rows(View<bfloat16> src, i64 rows, i64 K, float* dst, i64 ld) {
  const View<bfloat16> by_k = src.transposed();
  for (i64 r = 0; r < rows; ++r, dst += ld) {
    i64 k = 0;
    if (src.cs == 1 && src.cols == nullptr) {
      k = K / 2 * 2;
      std::memcpy(dst, src.p + src.row(r), static_cast<std::size_t>(k) * sizeof(bfloat16));
    }
    for (; k < K; k += 2) gather_pair(by_k, k, K, r, dst + k / 2);
  }
}

// One panel of n <= NR columns.
template <int NR>
void pack_pair_panel(View<bfloat16> src, i64 K, i64 n, float* dst) {
  constexpr int W = Vec<float>::W;
  i64 k_done = 0, c_done = 0;  // the fast code has packed rows [0, k_done) of columns [0, c_done)
  if (src.rs == 1 && src.rows == nullptr) {
    const i64 whole = K / (2 * W) * (2 * W);
    for (i64 c = 0; c + W <= n; c += W)
      for (i64 k = 0; k < whole; k += 2 * W)
        transpose_pairs([&](int i) { return src.p + src.col(c + i) + k; }, dst + k / 2 * NR + c, NR);
    k_done = whole, c_done = n / W * W;
  } else if (src.cs == 1 && src.cols == nullptr && n == NR) {
    k_done = K / 2 * 2, c_done = n;
    for (i64 k = 0; k < k_done; k += 2) interleave_rows(src.p + src.row(k), src.p + src.row(k + 1), dst + k / 2 * NR);
  }
  for (i64 k = 0; k < K; k += 2)
    for (i64 c = k < k_done ? c_done : 0; c < NR; ++c) {
      if (c < n)
        gather_pair(src, k, K, c, dst + k / 2 * NR + c);
      else
        dst[k / 2 * NR + c] = 0;
    }
}

template <int NR>
void pack_pair_panels(View<bfloat16> src, i64 K, i64 cols, float* dst) {
  for (i64 j = 0; j < cols; j += NR, dst += (K + 1) / 2 * NR)
    pack_pair_panel<NR>(src.at(0, j), K, minimum(cols - j, NR), dst);
}

// Dropout of the panels of one strip in place, like drop_panels.
template <int NR>
void drop_pair_panels(const MaskBits& mask_bits, const Rect& at, float* panels, u32* words) {
  using V = Vec<float>;
  if (mask_bits.keeps_all()) return;
  const V scale(static_cast<float>(keep_scale(mask_bits.mask().threshold))), zero(0.0f);
  const i64 K = at.rows;
  mask_bits.strip(at.i, K, at.j, words);
  for (i64 c = 0; c < at.cols; c += NR) {
    float* p = panels + c * ((K + 1) / 2);
    for (i64 k = 0; k < K; k += 2, p += NR)
      for (int v = 0; v < NR; v += V::W) {
        const V pairs = V::load(p + v);
        const u32 next = k + 1 < K ? words[k + 1] : 0;
        pair_of(select(V::lanes(words[k] >> (c + v)), first_of(pairs) * scale, zero),
                select(V::lanes(next >> (c + v)), second_of(pairs) * scale, zero))
            .store(p + v);
      }
  }
}

template <>
struct Packer<bfloat16> {
  static constexpr int NR = Tiling<float>::NR;
  static constexpr i64 LDA = Tiling<float>::LDA;

  static void rows(View<bfloat16> src, i64 rows, i64 K, float* dst) { pack_pair_rows(src, rows, K, dst, LDA); }
  static void panels(View<bfloat16> src, i64 K, i64 cols, float* dst) { pack_pair_panels<NR>(src, K, cols, dst); }
  static void drop_rows(const MaskBits& mask_bits, const Rect& at, float* block, u32* words) {
    FD_ISA::drop_rows(mask_bits, at, reinterpret_cast<bfloat16*>(block), 2 * LDA, words);
  }
  static void drop_panels(const MaskBits& mask_bits, const Rect& at, float* panels, u32* words) {
    drop_pair_panels<NR>(mask_bits, at, panels, words);
  }

  // Rounds and stores a computed row, or two rows as pairs (`second` may be null). Stores whole vectors; row[n] is 0.
  static FD_FN void store_row(const float* row, i64 n, float* dst) {
    for (i64 c = 0; c < n; c += Vec<float>::W) Vec<float>::load(row + c).store(reinterpret_cast<bfloat16*>(dst) + c);
  }
  static FD_FN void store_row_pair(const float* first, const float* second, i64 n, float* dst) {
    using V = Vec<float>;
    for (i64 c = 0; c < n; c += V::W)
      pair_of(V::load(first + c), second == nullptr ? V(0.0f) : V::load(second + c)).store(dst + c);
  }

  // Rounds a strip of up to four computed rows, 32 floats apart, into a block whose pairs lie along its rows.
  static FD_FN void store_rows(const float* strip, i64 rows, float* dst, i64 ld) {
    for (i64 r = 0; r < rows; ++r) copy_row(strip + r * kGroup, kGroup, reinterpret_cast<bfloat16*>(dst + r * ld));
  }
  // The same for a block whose pairs lie along its columns: dst[(r/2)*ld + c] = (strip[r][c], strip[r + 1][c]). A
  // missing last row counts as 0.
  static FD_FN void store_row_pairs(const float* strip, i64 rows, float* dst, i64 ld) {
    using V = Vec<float>;
    for (i64 r = 0; r < rows; r += 2, strip += 2 * kGroup, dst += ld)
      for (int c = 0; c < kGroup; c += V::W)
        pair_of(V::load(strip + c), r + 1 < rows ? V::load(strip + kGroup + c) : V(0.0f)).store(dst + c);
  }
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
