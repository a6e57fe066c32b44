// vec8: moves a vec8, eight neighboring elements of a row, between memory and the registers of one thread: 16 bytes of
// bfloat16 or float16, twice 16 bytes of float32. A vec8 that is not 16 aligned bytes is moved element by element.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

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

__device__ __forceinline__ void widen_pair(u32 pair, float& low, float& high, bfloat16) {
  low = float_of(pair << 16);
  high = float_of(pair & 0xffff0000u);
}
__device__ __forceinline__ void widen_pair(u32 pair, float& low, float& high, float16) {
  low = widen(float16{static_cast<u16>(pair)});
  high = widen(float16{static_cast<u16>(pair >> 16)});
}

template <class Pair>
__device__ __forceinline__ u32 bits_of_pair(const Pair& pair) {
  u32 bits;
  std::memcpy(&bits, &pair, sizeof bits);
  return bits;
}
__device__ __forceinline__ u32 narrow_pair(float low, float high, bfloat16) {
  return bits_of_pair(__float22bfloat162_rn(make_float2(low, high)));
}
__device__ __forceinline__ u32 narrow_pair(float low, float high, float16) {
  return bits_of_pair(__float22half2_rn(make_float2(low, high)));
}

__device__ __forceinline__ void load_four(const float* from, float* v) {
  const float4 four = ld<float4>(from);
  v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
}
__device__ __forceinline__ void load_whole(const float* from, float (&v)[kVec8]) {
  load_four(from, v);
  load_four(from + 4, v + 4);
}
template <class S>
__device__ __forceinline__ void load_whole(const S* from, float (&v)[kVec8]) {
  const uint4 pairs = ld<uint4>(from);
  widen_pair(pairs.x, v[0], v[1], S{});
  widen_pair(pairs.y, v[2], v[3], S{});
  widen_pair(pairs.z, v[4], v[5], S{});
  widen_pair(pairs.w, v[6], v[7], S{});
}

__device__ __forceinline__ void store_whole(float* to, const float (&v)[kVec8]) {
  st(to, make_float4(v[0], v[1], v[2], v[3]));
  st(to + 4, make_float4(v[4], v[5], v[6], v[7]));
}
template <class S>
__device__ __forceinline__ void store_whole(S* to, const float (&v)[kVec8]) {
  st(to, make_uint4(narrow_pair(v[0], v[1], S{}), narrow_pair(v[2], v[3], S{}), narrow_pair(v[4], v[5], S{}),
                    narrow_pair(v[6], v[7], S{})));
}

// Loads the first `valid` of eight elements, and zeros after them (valid <= 0: all zeros). `vector` may be true only if
// the address is a multiple of 16 bytes, the stride is 1 and all eight elements are valid.
template <class S>
__device__ __forceinline__ void load_vec8(const S* from, i64 stride, int valid, bool vector, float (&v)[kVec8]) {
  if (vector) return load_whole(from, v);
  #pragma unroll
  for (int e = 0; e < kVec8; ++e) v[e] = e < valid ? widen(from[e * stride]) : 0.0f;
}

template <class S>
__device__ __forceinline__ void store_vec8(S* to, int valid, bool vector, const float (&v)[kVec8]) {
  if (vector) return store_whole(to, v);
  #pragma unroll
  for (int e = 0; e < kVec8; ++e)
    if (e < valid) narrow(v[e], to[e]);
}

}  // namespace fusedrop::cuda
