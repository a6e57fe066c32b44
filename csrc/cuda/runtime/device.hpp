// device: the functions and macros that kernels are written with. nvcc compiles them to PTX. A host compiler includes
// emulation/device.hpp instead, which runs the same kernels on the CPU for the tests. No other kernel source contains
// inline assembly, and only runtime/ depends on the compiler.
//
//   FD_KERNEL, FD_DEVICE                        a kernel, and a function that kernels call
//   thread_index, block_index, grid_size        of a one-dimensional block in a grid of (x, y)
//   shared_memory, shared_address               the block's dynamic memory, and its address as the copies below take it
//   sync_threads, shuffle_xor                   barrier of a block; exchange within a warp
//   copy_async, commit_copies, wait_copies<n>   global to shared, in groups; waits until at most n groups are pending
//   load_matrices, load_transposed              ldmatrix.x4: four 8x8 matrices of 16-bit elements; each lane passes the
//                                               address of one row
//   multiply_add, multiply_add_tf32             mma.sync: 16x8x16 of bfloat16 or float16, 16x8x8 of TF32; float32 sums
//   load16, store16, store8                     16 or 8 bytes at an aligned address
//   narrow_pair, widen_pair                     two 16-bit elements in a word
//   Word                                        a u32 for the generator
#pragma once

#include "core/dtypes.hpp"
#include "core/platform.hpp"

namespace fusedrop::cuda {

struct alignas(16) Words {
  u32 w[4];
};

struct Word {  // the word type of philox4x32_10 in kernels
  u32 bits;
};
FD_FN Word xor3(Word a, Word b, u32 key) { return {a.bits ^ b.bits ^ key}; }
// Inline assembly, because nvcc compiles the plain product of two u32 to 64-bit arithmetic, with an addition of 0 after
// every multiplication.
FD_FN void multiply_wide(Word a, u32 multiplier, Word& hi, Word& lo) {
#if defined(__CUDA_ARCH__)
  asm("{\n\t.reg .u64 product;\n\tmul.wide.u32 product, %2, %3;\n\tmov.b64 {%0, %1}, product;\n\t}"
      : "=r"(lo.bits), "=r"(hi.bits)
      : "r"(a.bits), "r"(multiplier));
#else
  const u64 product = static_cast<u64>(a.bits) * multiplier;
  hi.bits = static_cast<u32>(product >> 32);
  lo.bits = static_cast<u32>(product);
#endif
}

}  // namespace fusedrop::cuda

#if !defined(__CUDACC__)
#include "cuda/emulation/device.hpp"
#else

#define FD_KERNEL __global__
#define FD_DEVICE __device__ __forceinline__
// Threads per block, and the number of blocks that must be resident on a multiprocessor at the same time.
#define FD_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define FD_PARAMETER __grid_constant__  // the kernel reads this parameter in place
#define FD_UNROLL _Pragma("unroll")
#define FD_ROLL _Pragma("unroll 1")

namespace fusedrop::cuda {

FD_DEVICE u32 thread_index() { return threadIdx.x; }
FD_DEVICE u32 block_size() { return blockDim.x; }
FD_DEVICE u32 block_index() { return blockIdx.x; }
FD_DEVICE u32 block_index_y() { return blockIdx.y; }
FD_DEVICE u32 grid_size() { return gridDim.x; }

FD_DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char fusedrop_shared_memory[];
  return fusedrop_shared_memory;
}
FD_DEVICE u32 shared_address(const void* shared) { return static_cast<u32>(__cvta_generic_to_shared(shared)); }
FD_DEVICE void sync_threads() { __syncthreads(); }
FD_DEVICE u32 shuffle_xor(u32 value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }

// Copies the first `valid` of 16 bytes and writes zeros after them; both addresses are multiples of 16.
FD_DEVICE void copy_async_16(u32 shared, const void* global, int valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(valid) : "memory");
}
FD_DEVICE void copy_async_16(u32 shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
FD_DEVICE void copy_async_4(u32 shared, const void* global, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(valid) : "memory");
}
FD_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
FD_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

FD_DEVICE void load_matrices(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
FD_DEVICE void load_transposed(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

#define FD_MMA_16816(type)                                                            \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
FD_DEVICE void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, bfloat16) { FD_MMA_16816("bf16"); }
FD_DEVICE void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, float16) { FD_MMA_16816("f16"); }
#undef FD_MMA_16816

FD_DEVICE void multiply_add_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
FD_DEVICE u32 round_tf32(float value) {  // to nearest, ties away from 0
  u32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
}

FD_DEVICE Words load16(const void* from) {
  const uint4 v = *static_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}
FD_DEVICE void store16(void* to, const Words& v) {
  *static_cast<uint4*>(to) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
}
FD_DEVICE void store8(void* to, u32 low, u32 high) { *static_cast<uint2*>(to) = make_uint2(low, high); }

FD_DEVICE u32 narrow_pair(float low, float high, bfloat16) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
FD_DEVICE u32 narrow_pair(float low, float high, float16) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

}  // namespace fusedrop::cuda
#endif

namespace fusedrop::cuda {

FD_FN void widen_pair(u32 pair, float& low, float& high, bfloat16) {
  low = float_of(pair << 16);
  high = float_of(pair & 0xffff0000u);
}
FD_FN void widen_pair(u32 pair, float& low, float& high, float16) {
  low = widen(float16{static_cast<u16>(pair)});
  high = widen(float16{static_cast<u16>(pair >> 16)});
}

}  // namespace fusedrop::cuda
