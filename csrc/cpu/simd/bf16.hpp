// bf16: pairs of bfloat16, the operands of the dot product of AVX512_BF16. A float lane holds the bits of two neighbors
// along K, the first one in its lower half.
#pragma once

#include "cpu/simd/avx512.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// c + a.first * b.first + a.second * b.second in each lane. The instruction rounds after each addition and treats
// subnormal numbers as 0 (Intel SDM, VDPBF16PS).
FD_FN VecF dot_pairs(VecF a, VecF b, VecF c) {
  return _mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v));
}

FD_FN VecF load_pairs(const bfloat16* p) { return _mm512_loadu_ps(p); }

FD_FN VecF first_of(VecF pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs.v), 16)); }
FD_FN VecF second_of(VecF pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs.v), _mm512_set1_epi32(~0xffff)));
}

// Rounds both to bfloat16 and joins them. One instruction clears the lower half of `second` and puts `first` there.
FD_FN VecF pair_of(VecF first, VecF second) {
  constexpr int kUpperOfSecondElseFirst = 0xd8;  // c ? b : a with a = first >> 16, b = second, c = upper half
  const __m512i low = _mm512_srli_epi32(first.rounded(), 16);
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(low, second.rounded(), _mm512_set1_epi32(~0xffff), kUpperOfSecondElseFirst));
}

// Transposes a 16 x 16 block of pairs: dst[j*ldd + i] = the pair at row(i)[2j].
template <class Row>
FD_FN void transpose_pairs(Row row, float* dst, i64 ldd) {
  transpose_rows([&](int i) { return load_pairs(row(i)).v; }, dst, ldd);
}

// 32 columns of two rows as pairs: dst[c] = (a[c], b[c]).
FD_FN void interleave_rows(const bfloat16* a, const bfloat16* b, float* dst) {
  const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  alignas(64) static constexpr u16 kOrder[64] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                 8,  40, 9,  41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47,
                                                 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                                 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
  _mm512_storeu_si512(dst, _mm512_permutex2var_epi16(x, _mm512_load_si512(kOrder), y));
  _mm512_storeu_si512(dst + 16, _mm512_permutex2var_epi16(x, _mm512_load_si512(kOrder + 32), y));
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
