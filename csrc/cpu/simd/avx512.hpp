// avx512: vectors of 16 floats or 8 doubles, for AVX-512 F, BW, DQ and VL. See cpu/simd/vec.hpp.
#pragma once

#include <immintrin.h>

#include "core/dtypes.hpp"
#include "core/scalar.hpp"
#include "cpu/simd/philox_keys.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using Scalar = float;
  using LaneMask = __mmask16;
  static constexpr int W = 16;
  __m512 v;
  Vec() = default;
  FD_FN Vec(__m512 value) : v(value) {}
  FD_FN explicit Vec(float value) : v(_mm512_set1_ps(value)) {}
  static FD_FN Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static FD_FN Vec load(const bfloat16* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  FD_FN void store(float* p) const { _mm512_storeu_ps(p, v); }
  FD_FN void store(bfloat16* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded(), 16)));
  }
  // narrow() of core/dtypes.hpp in the upper half of each lane; the lower half is garbage.
  FD_FN __m512i rounded() const {
    const __m512i bits = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_mask_or_epi32(sum, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
  }
  static FD_FN LaneMask lanes(u32 bits) { return static_cast<LaneMask>(bits); }
};
using VecF = Vec<float>;

FD_FN VecF operator+(VecF a, VecF b) { return _mm512_add_ps(a.v, b.v); }
FD_FN VecF operator-(VecF a, VecF b) { return _mm512_sub_ps(a.v, b.v); }
FD_FN VecF operator*(VecF a, VecF b) { return _mm512_mul_ps(a.v, b.v); }
FD_FN VecF operator/(VecF a, VecF b) { return _mm512_div_ps(a.v, b.v); }
FD_FN VecF fma(VecF a, VecF b, VecF c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
FD_FN VecF multiply_add(VecF a, VecF b, VecF c) { return fma(a, b, c); }
FD_FN VecF min(VecF a, VecF b) { return _mm512_min_ps(a.v, b.v); }
FD_FN VecF max(VecF a, VecF b) { return _mm512_max_ps(a.v, b.v); }
FD_FN VecF abs(VecF a) { return _mm512_abs_ps(a.v); }
FD_FN VecF sqrt(VecF a) { return _mm512_sqrt_ps(a.v); }
FD_FN VecF copy_sign(VecF a, VecF s) {
  return _mm512_or_ps(_mm512_abs_ps(a.v), _mm512_and_ps(s.v, _mm512_set1_ps(-0.0f)));
}
FD_FN VecF round_even(VecF a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FD_FN VecF pow2(VecF n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
FD_FN __mmask16 less_equal(VecF a, VecF b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ); }
FD_FN VecF select(__mmask16 m, VecF a, VecF b) { return _mm512_mask_blend_ps(m, b.v, a.v); }

FD_FN VecF compress(u32 bits, VecF a) { return _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), a.v); }
FD_FN VecF expand(u32 bits, VecF a) { return _mm512_maskz_expand_ps(static_cast<__mmask16>(bits), a.v); }

template <>
struct Vec<double> {
  using Scalar = double;
  using LaneMask = __mmask8;
  static constexpr int W = 8;
  __m512d v;
  Vec() = default;
  FD_FN Vec(__m512d value) : v(value) {}
  FD_FN explicit Vec(double value) : v(_mm512_set1_pd(value)) {}
  static FD_FN Vec load(const double* p) { return _mm512_loadu_pd(p); }
  FD_FN void store(double* p) const { _mm512_storeu_pd(p, v); }
  static FD_FN LaneMask lanes(u32 bits) { return static_cast<LaneMask>(bits); }
};
using VecD = Vec<double>;

FD_FN VecD operator+(VecD a, VecD b) { return _mm512_add_pd(a.v, b.v); }
FD_FN VecD operator-(VecD a, VecD b) { return _mm512_sub_pd(a.v, b.v); }
FD_FN VecD operator*(VecD a, VecD b) { return _mm512_mul_pd(a.v, b.v); }
FD_FN VecD operator/(VecD a, VecD b) { return _mm512_div_pd(a.v, b.v); }
FD_FN VecD fma(VecD a, VecD b, VecD c) { return _mm512_fmadd_pd(a.v, b.v, c.v); }
FD_FN VecD multiply_add(VecD a, VecD b, VecD c) { return fma(a, b, c); }
FD_FN VecD min(VecD a, VecD b) { return _mm512_min_pd(a.v, b.v); }
FD_FN VecD max(VecD a, VecD b) { return _mm512_max_pd(a.v, b.v); }
FD_FN VecD abs(VecD a) { return _mm512_abs_pd(a.v); }
FD_FN VecD sqrt(VecD a) { return _mm512_sqrt_pd(a.v); }
FD_FN VecD copy_sign(VecD a, VecD s) {
  return _mm512_or_pd(_mm512_abs_pd(a.v), _mm512_and_pd(s.v, _mm512_set1_pd(-0.0)));
}
FD_FN VecD round_even(VecD a) { return _mm512_roundscale_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FD_FN VecD pow2(VecD n) {
  const __m512i biased = _mm512_add_epi64(_mm512_cvtpd_epi64(n.v), _mm512_set1_epi64(1023));
  return _mm512_castsi512_pd(_mm512_slli_epi64(biased, 52));
}
FD_FN __mmask8 less_equal(VecD a, VecD b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ); }
FD_FN VecD select(__mmask8 m, VecD a, VecD b) { return _mm512_mask_blend_pd(m, b.v, a.v); }
FD_FN VecD compress(u32 bits, VecD a) { return _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), a.v); }
FD_FN VecD expand(u32 bits, VecD a) { return _mm512_maskz_expand_pd(static_cast<__mmask8>(bits), a.v); }

// Transposes 16 x 16 floats in four rounds of pairwise exchanges: of 32-bit pieces, of 64-bit pieces, then of 128-bit
// pieces at distance 1 and at distance 2.
template <class Rows>
FD_FN void transpose_rows(Rows row, float* dst, i64 ldd) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = row(i);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int h = 0; h < 2; ++h) {
      const __m512d a = _mm512_castps_pd(t[i + h]), b = _mm512_castps_pd(t[i + h + 2]);
      r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  for (int i = 0; i < 16; i += 8)
    for (int c = 0; c < 4; ++c) {
      t[i + c] = _mm512_shuffle_f32x4(r[i + c], r[i + c + 4], 0x88);
      t[i + c + 4] = _mm512_shuffle_f32x4(r[i + c], r[i + c + 4], 0xdd);
    }
  for (int c = 0; c < 8; ++c) {
    _mm512_storeu_ps(dst + c * ldd, _mm512_shuffle_f32x4(t[c], t[c + 8], 0x88));
    _mm512_storeu_ps(dst + (c + 8) * ldd, _mm512_shuffle_f32x4(t[c], t[c + 8], 0xdd));
  }
}

template <class Row>  // rows of float, or of bfloat16, which are widened
FD_FN void transpose(Row row, float* dst, i64 ldd) {
  transpose_rows([&](int i) { return VecF::load(row(i)).v; }, dst, ldd);
}

template <class Row>
FD_FN void transpose(Row row, double* dst, i64 ldd) {
  __m512d r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm512_loadu_pd(row(i));
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int c = 0; c < 2; ++c) {
      r[i + c] = _mm512_shuffle_f64x2(t[i + c], t[i + c + 2], 0x88);
      r[i + c + 2] = _mm512_shuffle_f64x2(t[i + c], t[i + c + 2], 0xdd);
    }
  for (int c = 0; c < 4; ++c) {
    _mm512_storeu_pd(dst + c * ldd, _mm512_shuffle_f64x2(r[c], r[c + 4], 0x88));
    _mm512_storeu_pd(dst + (c + 4) * ldd, _mm512_shuffle_f64x2(r[c], r[c + 4], 0xdd));
  }
}

// Eight Philox counters in the low halves of 64-bit lanes: one vpmuludq gives both halves of a product. It leaves
// garbage in the high halves of the lanes, which is never read. A round takes 12 instructions for 16 counters; with
// 32-bit lanes it would take 16.
struct PhiloxLanes {
  __m512i v;
};
FD_FN void philox_round(PhiloxLanes c[4], u64 key0, u64 key1) {
  const __m512i p0 = _mm512_mul_epu32(c[0].v, _mm512_set1_epi64(kPhiloxMultiplier0));
  const __m512i p1 = _mm512_mul_epu32(c[2].v, _mm512_set1_epi64(kPhiloxMultiplier1));
  constexpr int kXor3 = 0x96;
  c[0].v =
      _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c[1].v, _mm512_set1_epi64(static_cast<i64>(key0)), kXor3);
  c[2].v =
      _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c[3].v, _mm512_set1_epi64(static_cast<i64>(key1)), kXor3);
  c[1].v = p1;
  c[3].v = p0;
}

// Lane 4g + q is call q of pair g. `a` computes the even lanes and `b` the odd ones. A 16-bit compare of word i gives
// bits 8g + 2q + h: byte g of the result is columns 8i .. 8i+7 of pair g. So a transpose of 4 x 4 bytes gives the four
// row words.
FD_FN void keep_words4(const PhiloxKeys& keys, const Mask& mask, Quad q, u32* out) {
  const __m512i pair = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i row =
      _mm512_add_epi64(_mm512_set1_epi64(q.row), _mm512_mul_epu32(pair, _mm512_set1_epi64(q.row_stride)));
  const __m512i block =
      _mm512_add_epi64(_mm512_set1_epi64(q.block), _mm512_mul_epu32(pair, _mm512_set1_epi64(q.block_stride)));
  const __m512i call = _mm512_add_epi64(_mm512_slli_epi64(block, 2), _mm512_set_epi64(2, 0, 2, 0, 2, 0, 2, 0));
  const __m512i step = _mm512_set1_epi64(mask.step), stream = _mm512_set1_epi64(mask.stream);
  PhiloxLanes a[4] = {{call}, {row}, {step}, {stream}};
  PhiloxLanes b[4] = {{_mm512_add_epi64(call, _mm512_set1_epi64(1))}, {row}, {step}, {stream}};
  for (int r = 0; r < kPhiloxRounds; ++r) {
    philox_round(a, keys.k0[r], keys.k1[r]);
    philox_round(b, keys.k0[r], keys.k1[r]);
  }
  const __m512i threshold = _mm512_set1_epi16(static_cast<short>(mask.threshold));
  u32 keep[4];
  for (int i = 0; i < 4; ++i) {
    const __m512i word = _mm512_mask_blend_epi32(0xaaaa, a[i].v, _mm512_slli_epi64(b[i].v, 32));
    keep[i] = _mm512_cmpge_epu16_mask(word, threshold);
  }
  const __m128i bytes = _mm_set_epi32(static_cast<int>(keep[3]), static_cast<int>(keep[2]), static_cast<int>(keep[1]),
                                      static_cast<int>(keep[0]));
  const __m128i order = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(bytes, order));
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
