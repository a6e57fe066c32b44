// scalar: vectors of one lane, for CPUs without AVX2, and as the simplest form of every kernel. See cpu/simd/vec.hpp.
#pragma once

#include "core/dtypes.hpp"
#include "core/scalar.hpp"
#include "cpu/simd/philox_keys.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
struct Vec {
  using Scalar = T;
  using LaneMask = bool;
  static constexpr int W = 1;
  T v;
  Vec() = default;
  FD_FN explicit Vec(T value) : v(value) {}
  static FD_FN Vec load(const T* p) { return Vec(*p); }
  static FD_FN Vec load(const bfloat16* p) { return Vec(widen(*p)); }
  FD_FN void store(T* p) const { *p = v; }
  FD_FN void store(bfloat16* p) const { narrow(v, *p); }
  static FD_FN LaneMask lanes(u32 bits) { return bits & 1; }
};

template <class T>
FD_FN Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return Vec<T>(a.v + b.v);
}
template <class T>
FD_FN Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return Vec<T>(a.v - b.v);
}
template <class T>
FD_FN Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return Vec<T>(a.v * b.v);
}
template <class T>
FD_FN Vec<T> operator/(Vec<T> a, Vec<T> b) {
  return Vec<T>(a.v / b.v);
}
template <class T>
FD_FN Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  return Vec<T>(fusedrop::fma(a.v, b.v, c.v));
}
template <class T>
FD_FN Vec<T> min(Vec<T> a, Vec<T> b) {
  return Vec<T>(fusedrop::min(a.v, b.v));
}
template <class T>
FD_FN Vec<T> max(Vec<T> a, Vec<T> b) {
  return Vec<T>(fusedrop::max(a.v, b.v));
}
template <class T>
FD_FN Vec<T> abs(Vec<T> a) {
  return Vec<T>(fusedrop::abs(a.v));
}
template <class T>
FD_FN Vec<T> sqrt(Vec<T> a) {
  return Vec<T>(fusedrop::sqrt(a.v));
}
template <class T>
FD_FN Vec<T> copy_sign(Vec<T> a, Vec<T> s) {
  return Vec<T>(fusedrop::copy_sign(a.v, s.v));
}
template <class T>
FD_FN Vec<T> round_even(Vec<T> a) {
  return Vec<T>(fusedrop::round_even(a.v));
}
template <class T>
FD_FN Vec<T> pow2(Vec<T> n) {
  return Vec<T>(fusedrop::pow2(n.v));
}
template <class T>
FD_FN bool less_equal(Vec<T> a, Vec<T> b) {
  return a.v <= b.v;
}
template <class T>
FD_FN Vec<T> select(bool m, Vec<T> a, Vec<T> b) {
  return m ? a : b;
}

// The multiply-add of matrix products. Baseline x86-64 has no fma instruction, and the fma of libm costs 20 times more.
// So the scalar build rounds twice here, which the error bound includes. Targets with fma in their baseline give the
// same bits as AVX2 and AVX-512.
template <class T>
FD_FN Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__FMA__) || defined(__aarch64__)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class Row, class T>
FD_FN void transpose(Row row, T* dst, i64) {
  *dst = widen(*row(0));
}

FD_FN void keep_words4(const PhiloxKeys&, const Mask& mask, Quad q, u32* out) {
  for (u32 g = 0; g < 4; ++g) out[g] = keep_word(mask, q.row + g * q.row_stride, q.block + g * q.block_stride);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
