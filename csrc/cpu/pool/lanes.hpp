// lanes: vectors of integers with as many lanes as Vec<T>. Max pooling keeps positions in them.
//
//   Lane<T>: an integer as wide as T | Ints<T>: load, store, explicit Ints(value) broadcasts, +, select
//   greater_or_nan(v, m): the lanes where v replaces the maximum m: v > m, or v is a NaN. A NaN in m is replaced only
//   by a NaN in v
#pragma once

#include <type_traits>

#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
using Lane = std::conditional_t<sizeof(T) == 8, u64, u32>;

#if FD_ISA_LEVEL == 2

template <class T>
struct Ints {
  __m512i v;
  FD_FN Ints(__m512i value) : v(value) {}
  FD_FN explicit Ints(i64 value)
      : v(sizeof(T) == 8 ? _mm512_set1_epi64(value) : _mm512_set1_epi32(static_cast<int>(value))) {}
  static FD_FN Ints load(const Lane<T>* p) { return _mm512_loadu_si512(p); }
  FD_FN void store(Lane<T>* p) const { _mm512_storeu_si512(p, v); }
};
FD_FN Ints<float> operator+(Ints<float> a, Ints<float> b) { return _mm512_add_epi32(a.v, b.v); }
FD_FN Ints<double> operator+(Ints<double> a, Ints<double> b) { return _mm512_add_epi64(a.v, b.v); }
FD_FN Ints<float> select(__mmask16 m, Ints<float> a, Ints<float> b) { return _mm512_mask_blend_epi32(m, b.v, a.v); }
FD_FN Ints<double> select(__mmask8 m, Ints<double> a, Ints<double> b) { return _mm512_mask_blend_epi64(m, b.v, a.v); }
FD_FN __mmask16 greater_or_nan(VecF v, VecF m) {
  return _mm512_cmp_ps_mask(v.v, m.v, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v.v, v.v, _CMP_UNORD_Q);
}
FD_FN __mmask8 greater_or_nan(VecD v, VecD m) {
  return _mm512_cmp_pd_mask(v.v, m.v, _CMP_GT_OQ) | _mm512_cmp_pd_mask(v.v, v.v, _CMP_UNORD_Q);
}

#elif FD_ISA_LEVEL == 1

template <class T>
struct Ints {
  __m256i v;
  FD_FN Ints(__m256i value) : v(value) {}
  FD_FN explicit Ints(i64 value)
      : v(sizeof(T) == 8 ? _mm256_set1_epi64x(value) : _mm256_set1_epi32(static_cast<int>(value))) {}
  static FD_FN Ints load(const Lane<T>* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  FD_FN void store(Lane<T>* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};
FD_FN Ints<float> operator+(Ints<float> a, Ints<float> b) { return _mm256_add_epi32(a.v, b.v); }
FD_FN Ints<double> operator+(Ints<double> a, Ints<double> b) { return _mm256_add_epi64(a.v, b.v); }
FD_FN Ints<float> select(__m256 m, Ints<float> a, Ints<float> b) {
  return _mm256_blendv_epi8(b.v, a.v, _mm256_castps_si256(m));
}
FD_FN Ints<double> select(__m256d m, Ints<double> a, Ints<double> b) {
  return _mm256_blendv_epi8(b.v, a.v, _mm256_castpd_si256(m));
}
FD_FN __m256 greater_or_nan(VecF v, VecF m) {
  return _mm256_or_ps(_mm256_cmp_ps(v.v, m.v, _CMP_GT_OQ), _mm256_cmp_ps(v.v, v.v, _CMP_UNORD_Q));
}
FD_FN __m256d greater_or_nan(VecD v, VecD m) {
  return _mm256_or_pd(_mm256_cmp_pd(v.v, m.v, _CMP_GT_OQ), _mm256_cmp_pd(v.v, v.v, _CMP_UNORD_Q));
}

#else

template <class T>
struct Ints {
  Lane<T> v;
  FD_FN explicit Ints(i64 value) : v(static_cast<Lane<T>>(value)) {}
  static FD_FN Ints load(const Lane<T>* p) { return Ints(static_cast<i64>(*p)); }
  FD_FN void store(Lane<T>* p) const { *p = v; }
};
template <class T>
FD_FN Ints<T> operator+(Ints<T> a, Ints<T> b) {
  return Ints<T>(static_cast<i64>(a.v + b.v));
}
template <class T>
FD_FN Ints<T> select(bool m, Ints<T> a, Ints<T> b) {
  return m ? a : b;
}
template <class T>
FD_FN bool greater_or_nan(Vec<T> v, Vec<T> m) {
  return v.v > m.v || v.v != v.v;
}

#endif

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
