// ptx: PTX instructions, each as a function of the instruction's name. No other kernel source contains inline assembly.
// For the tests a host compiler compiles the kernels too. It finds <cuda_runtime.h> in emulation/include/, and these
// functions in emulation/ptx.hpp.
//
//   cp_async_16, cp_async_4         global to shared, 16 or 4 bytes, in groups:
//   cp_async_commit_group           ends a group
//   cp_async_wait_group<n>          waits until at most n groups are pending
//   ldmatrix_x4, ldmatrix_x4_trans  four 8x8 matrices of 16-bit elements; each lane passes the address of one row
//   mma_m16n8k16, mma_m16n8k8       16x8x16 of bfloat16 or float16, 16x8x8 of TF32; sums in float32
//   cvt_rna_tf32                    float32 to TF32, to nearest, ties away from 0
//   ld, st                          a float4, uint4 or uint2, whose address the emulation checks
//   mul_wide_u32                    the product of two u32
#pragma once

#include <cuda_runtime.h>

#include "core/dtypes.hpp"
#include "core/platform.hpp"

#if !defined(__CUDACC__)
#include "cuda/emulation/ptx.hpp"
#endif

namespace fusedrop::cuda {

extern __shared__ __align__(128) char shared_memory[];  // the block's dynamic shared memory

// The address of shared memory, as cp.async and ldmatrix take it.
__device__ __forceinline__ u32 shared_address(const void* shared) {
  return static_cast<u32>(__cvta_generic_to_shared(shared));
}

constexpr u32 kFullMask = 0xffffffff;  // all lanes of a warp, for __shfl_xor_sync

FD_FN void mul_wide_u32(u32 a, u32 b, u32& hi, u32& lo) {
#if defined(__CUDA_ARCH__)
  asm("{\n\t.reg .u64 product;\n\tmul.wide.u32 product, %2, %3;\n\tmov.b64 {%0, %1}, product;\n\t}"
      : "=r"(lo), "=r"(hi)
      : "r"(a), "r"(b));
#else
  const u64 product = static_cast<u64>(a) * b;
  hi = static_cast<u32>(product >> 32);
  lo = static_cast<u32>(product);
#endif
}

#if defined(__CUDACC__)

// Copies the first `src_size` of 16 bytes and writes zeros after them; both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(u32 shared, const void* global, int src_size) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(src_size) : "memory");
}
__device__ __forceinline__ void cp_async_16(u32 shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
__device__ __forceinline__ void cp_async_4(u32 shared, const void* global, int src_size) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(src_size) : "memory");
}
__device__ __forceinline__ void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
__device__ __forceinline__ void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, float16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_m16n8k8(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 cvt_rna_tf32(float value) {
  u32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
}

template <class V>
__device__ __forceinline__ V ld(const void* from) {
  return *static_cast<const V*>(from);
}
template <class V>
__device__ __forceinline__ void st(void* to, const V& v) {
  *static_cast<V*>(to) = v;
}

#endif

}  // namespace fusedrop::cuda
