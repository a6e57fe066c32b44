// cuda_runtime: CUDA's words for a host compiler. It takes the place of the CUDA header of that name where kernels are
// compiled for the emulation, and declares what the kernels use of it. emulation/fibers.cpp defines the functions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))

struct float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};
struct __align__(8) uint2 {
  unsigned x, y;
};
struct uint3 {
  unsigned x, y, z;
};
struct __align__(16) uint4 {
  unsigned x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Of the running thread: one grid runs at a time, and one thread of it.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void __syncthreads();
unsigned __shfl_xor_sync(unsigned mask, unsigned value, int lane_mask);  // the mask must be that of the whole warp
std::size_t __cvta_generic_to_shared(const void* address);
