// avx2: vectors of 8 floats or 4 doubles, for AVX2 and FMA. See cpu/simd/vec.hpp.
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
  using LaneMask = __m256;  // sign bit of each lane
  static constexpr int W = 8;
  __m256 v;
  Vec() = default;
  FD_FN Vec(__m256 value) : v(value) {}
  FD_FN explicit Vec(float value) : v(_mm256_set1_ps(value)) {}
  static FD_FN Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static FD_FN Vec load(const bfloat16* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  FD_FN void store(float* p) const { _mm256_storeu_ps(p, v); }
  FD_FN void store(bfloat16* p) const {  // narrow() of core/dtypes.hpp in each lane
    const __m256i bits = _mm256_castps_si256(v),
                  odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static FD_FN LaneMask lanes(u32 bits) {  // shifts bit i into the sign of lane i
    const __m256i shift = _mm256_set_epi32(24, 25, 26, 27, 28, 29, 30, 31);
    return _mm256_castsi256_ps(_mm256_sllv_epi32(_mm256_set1_epi32(static_cast<int>(bits)), shift));
  }
};
using VecF = Vec<float>;

FD_FN VecF operator+(VecF a, VecF b) { return _mm256_add_ps(a.v, b.v); }
FD_FN VecF operator-(VecF a, VecF b) { return _mm256_sub_ps(a.v, b.v); }
FD_FN VecF operator*(VecF a, VecF b) { return _mm256_mul_ps(a.v, b.v); }
FD_FN VecF operator/(VecF a, VecF b) { return _mm256_div_ps(a.v, b.v); }
FD_FN VecF fma(VecF a, VecF b, VecF c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
FD_FN VecF multiply_add(VecF a, VecF b, VecF c) { return fma(a, b, c); }
FD_FN VecF min(VecF a, VecF b) { return _mm256_min_ps(a.v, b.v); }
FD_FN VecF max(VecF a, VecF b) { return _mm256_max_ps(a.v, b.v); }
FD_FN VecF abs(VecF a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
FD_FN VecF sqrt(VecF a) { return _mm256_sqrt_ps(a.v); }
FD_FN VecF copy_sign(VecF a, VecF s) { return _mm256_or_ps(abs(a).v, _mm256_and_ps(s.v, _mm256_set1_ps(-0.0f))); }
FD_FN VecF round_even(VecF a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FD_FN VecF pow2(VecF n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
FD_FN __m256 less_equal(VecF a, VecF b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ); }
FD_FN VecF select(__m256 m, VecF a, VecF b) { return _mm256_blendv_ps(b.v, a.v, m); }

template <>
struct Vec<double> {
  using Scalar = double;
  using LaneMask = __m256d;
  static constexpr int W = 4;
  __m256d v;
  Vec() = default;
  FD_FN Vec(__m256d value) : v(value) {}
  FD_FN explicit Vec(double value) : v(_mm256_set1_pd(value)) {}
  static FD_FN Vec load(const double* p) { return _mm256_loadu_pd(p); }
  FD_FN void store(double* p) const { _mm256_storeu_pd(p, v); }
  static FD_FN LaneMask lanes(u32 bits) {
    const __m256i shift = _mm256_set_epi64x(60, 61, 62, 63);
    return _mm256_castsi256_pd(_mm256_sllv_epi64(_mm256_set1_epi64x(static_cast<i64>(bits)), shift));
  }
};
using VecD = Vec<double>;

FD_FN VecD operator+(VecD a, VecD b) { return _mm256_add_pd(a.v, b.v); }
FD_FN VecD operator-(VecD a, VecD b) { return _mm256_sub_pd(a.v, b.v); }
FD_FN VecD operator*(VecD a, VecD b) { return _mm256_mul_pd(a.v, b.v); }
FD_FN VecD operator/(VecD a, VecD b) { return _mm256_div_pd(a.v, b.v); }
FD_FN VecD fma(VecD a, VecD b, VecD c) { return _mm256_fmadd_pd(a.v, b.v, c.v); }
FD_FN VecD multiply_add(VecD a, VecD b, VecD c) { return fma(a, b, c); }
FD_FN VecD min(VecD a, VecD b) { return _mm256_min_pd(a.v, b.v); }
FD_FN VecD max(VecD a, VecD b) { return _mm256_max_pd(a.v, b.v); }
FD_FN VecD abs(VecD a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v); }
FD_FN VecD sqrt(VecD a) { return _mm256_sqrt_pd(a.v); }
FD_FN VecD copy_sign(VecD a, VecD s) { return _mm256_or_pd(abs(a).v, _mm256_and_pd(s.v, _mm256_set1_pd(-0.0))); }
FD_FN VecD round_even(VecD a) { return _mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FD_FN VecD pow2(VecD n) {
  const __m256i whole = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n.v));
  return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_add_epi64(whole, _mm256_set1_epi64x(1023)), 52));
}
FD_FN __m256d less_equal(VecD a, VecD b) { return _mm256_cmp_pd(a.v, b.v, _CMP_LE_OQ); }
FD_FN VecD select(__m256d m, VecD a, VecD b) { return _mm256_blendv_pd(b.v, a.v, m); }

template <class Row>  // rows of float, or of bfloat16, which are widened
FD_FN void transpose(Row row, float* dst, i64 ldd) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = VecF::load(row(i)).v;
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int h = 0; h < 2; ++h) {
      r[i + 2 * h] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0x44);
      r[i + 2 * h + 1] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0xee);
    }
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(dst + c * ldd, _mm256_permute2f128_ps(r[c], r[c + 4], 0x20));
    _mm256_storeu_ps(dst + (c + 4) * ldd, _mm256_permute2f128_ps(r[c], r[c + 4], 0x31));
  }
}

template <class Row>
FD_FN void transpose(Row row, double* dst, i64 ldd) {
  __m256d r[4], t[4];
  for (int i = 0; i < 4; ++i) r[i] = _mm256_loadu_pd(row(i));
  for (int i = 0; i < 4; i += 2) {
    t[i] = _mm256_unpacklo_pd(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_pd(r[i], r[i + 1]);
  }
  for (int c = 0; c < 2; ++c) {
    _mm256_storeu_pd(dst + c * ldd, _mm256_permute2f128_pd(t[c], t[c + 2], 0x20));
    _mm256_storeu_pd(dst + (c + 2) * ldd, _mm256_permute2f128_pd(t[c], t[c + 2], 0x31));
  }
}

// Four Philox counters in the low halves of 64-bit lanes, as in cpu/simd/avx512.hpp.
struct PhiloxLanes {
  __m256i v;
};
FD_FN void philox_round(PhiloxLanes c[4], u64 key0, u64 key1) {
  const __m256i p0 = _mm256_mul_epu32(c[0].v, _mm256_set1_epi64x(kPhiloxMultiplier0));
  const __m256i p1 = _mm256_mul_epu32(c[2].v, _mm256_set1_epi64x(kPhiloxMultiplier1));
  const __m256i x0 = _mm256_xor_si256(c[1].v, _mm256_set1_epi64x(static_cast<i64>(key0)));
  const __m256i x1 = _mm256_xor_si256(c[3].v, _mm256_set1_epi64x(static_cast<i64>(key1)));
  c[0].v = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), x0);
  c[2].v = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), x1);
  c[1].v = p1;
  c[3].v = p0;
}

// Two pairs at once: pair g is in 128-bit half g. So packs_epi16 of the compares of words i and i+1 puts the bytes of a
// pair side by side.
FD_FN void keep_words2(const PhiloxKeys& keys, const Mask& mask, Quad q, u32* out) {
  const __m256i row = _mm256_set_epi64x(q.row + q.row_stride, q.row + q.row_stride, q.row, q.row);
  const __m256i block = _mm256_set_epi64x(q.block + q.block_stride, q.block + q.block_stride, q.block, q.block);
  const __m256i call = _mm256_add_epi64(_mm256_slli_epi64(block, 2), _mm256_set_epi64x(2, 0, 2, 0));
  const __m256i step = _mm256_set1_epi64x(mask.step), stream = _mm256_set1_epi64x(mask.stream);
  PhiloxLanes a[4] = {{call}, {row}, {step}, {stream}};
  PhiloxLanes b[4] = {{_mm256_add_epi64(call, _mm256_set1_epi64x(1))}, {row}, {step}, {stream}};
  for (int r = 0; r < kPhiloxRounds; ++r) {
    philox_round(a, keys.k0[r], keys.k1[r]);
    philox_round(b, keys.k0[r], keys.k1[r]);
  }
  const __m256i threshold = _mm256_set1_epi16(static_cast<short>(mask.threshold));
  __m256i keep[4];
  for (int i = 0; i < 4; ++i) {
    const __m256i word = _mm256_blend_epi32(a[i].v, _mm256_slli_epi64(b[i].v, 32), 0xaa);
    keep[i] = _mm256_cmpeq_epi16(_mm256_max_epu16(word, threshold), word);  // unsigned >=
  }
  const u32 low = static_cast<u32>(_mm256_movemask_epi8(_mm256_packs_epi16(keep[0], keep[1])));
  const u32 high = static_cast<u32>(_mm256_movemask_epi8(_mm256_packs_epi16(keep[2], keep[3])));
  out[0] = (low & 0xffff) | (high << 16);
  out[1] = (low >> 16) | (high & 0xffff0000);
}

FD_FN void keep_words4(const PhiloxKeys& keys, const Mask& mask, Quad q, u32* out) {
  keep_words2(keys, mask, q, out);
  keep_words2(keys, mask, {q.row + 2 * q.row_stride, q.row_stride, q.block + 2 * q.block_stride, q.block_stride},
              out + 2);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
