// vec8: moves a vec8, eight neighboring elements of a row, between memory and the registers of one thread: 16 bytes of
// bfloat16 or float16, twice 16 bytes of float32. A vec8 that is not 16 aligned bytes is moved element by element.
#pragma once

#include "core/dtypes.hpp"
#include "cuda/gemm/mask_bits.hpp"

namespace fusedrop::cuda {

// Calls f with a value of the element type that CUDA arrays of `dtype` have.
template <class F>
void with_element(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::bfloat16:
      return f(bfloat16{});
    case Dtype::float16:
      return f(float16{});
    default:
      return f(float{});
  }
}

// Whether every full vec8 of the matrix that begins at a multiple of eight columns can be moved as 16 aligned bytes.
template <class S>
FD_FN bool moves_as_vectors(const void* data, i64 row_stride, i64 col_stride) {
  constexpr i64 elements = 16 / sizeof(S);
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row_stride % elements == 0 && col_stride == 1;
}

FD_DEVICE void load_whole(const float* from, float (&v)[kVec8]) {
  FD_UNROLL
  for (int half = 0; half < 2; ++half) {
    const Words words = load16(from + 4 * half);
    FD_UNROLL
    for (int e = 0; e < 4; ++e) v[4 * half + e] = float_of(words.w[e]);
  }
}
template <class S>
FD_DEVICE void load_whole(const S* from, float (&v)[kVec8]) {
  const Words words = load16(from);
  FD_UNROLL
  for (int pair = 0; pair < 4; ++pair) widen_pair(words.w[pair], v[2 * pair], v[2 * pair + 1], S{});
}

FD_DEVICE void store_whole(float* to, const float (&v)[kVec8]) {
  FD_UNROLL
  for (int half = 0; half < 2; ++half) {
    Words words;
    FD_UNROLL
    for (int e = 0; e < 4; ++e) words.w[e] = bits_of(v[4 * half + e]);
    store16(to + 4 * half, words);
  }
}
template <class S>
FD_DEVICE void store_whole(S* to, const float (&v)[kVec8]) {
  Words words;
  FD_UNROLL
  for (int pair = 0; pair < 4; ++pair) words.w[pair] = narrow_pair(v[2 * pair], v[2 * pair + 1], S{});
  store16(to, words);
}

// Loads the first `valid` of eight elements, and zeros after them (valid <= 0: all zeros). `vector` may be true only if
// the address is a multiple of 16 bytes, the stride is 1 and all eight elements are valid.
template <class S>
FD_DEVICE void load_vec8(const S* from, i64 stride, int valid, bool vector, float (&v)[kVec8]) {
  if (vector) return load_whole(from, v);
  FD_UNROLL
  for (int e = 0; e < kVec8; ++e) v[e] = e < valid ? widen(from[e * stride]) : 0.0f;
}

template <class S>
FD_DEVICE void store_vec8(S* to, int valid, bool vector, const float (&v)[kVec8]) {
  if (vector) return store_whole(to, v);
  FD_UNROLL
  for (int e = 0; e < kVec8; ++e)
    if (e < valid) narrow(v[e], to[e]);
}

}  // namespace fusedrop::cuda
