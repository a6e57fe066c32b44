// mask_bits: keep bits of a thread's vec8 (eight neighboring columns), with no word drawn twice. One call of the
// generator yields columns 2q and 2q + 1 of each of the four vec8s of a 32-column group. Four neighboring lanes draw
// q = 0..3 and exchange their bits, so that each lane has the bits of the one vec8 that it loads and stores.
#pragma once

#include "core/mask.hpp"
#include "cuda/gemm/tile.hpp"
#include "cuda/runtime/ptx.hpp"

namespace fusedrop::cuda {

constexpr int kQuad = kGroup / kVec8;  // lanes that share a group of 32 columns: a quad

// Returns the mask with its key read from device memory, if the key is there. A kernel calls it once, at its start.
__device__ __forceinline__ Mask load_mask_key(Mask mask) {
  if (mask.device_key == nullptr) return mask;
  mask.seed = static_cast<u64>(mask.device_key[0]);
  mask.step = static_cast<u32>(mask.device_key[1]);
  if (mask.device_key_has_stream) mask.stream ^= static_cast<u32>(mask.device_key[2]);
  return mask;
}

struct Word {  // the word type of philox4x32_10 in kernels
  u32 bits;
};
FD_FN Word xor3(Word a, Word b, u32 key) { return {a.bits ^ b.bits ^ key}; }
// By mul.wide, because nvcc compiles the plain product of two u32 to 64-bit arithmetic, with an addition of 0 after
// every multiplication.
FD_FN void multiply_wide(Word a, u32 multiplier, Word& hi, Word& lo) {
  mul_wide_u32(a.bits, multiplier, hi.bits, lo.bits);
}

// keep_word (core/mask.hpp) of one row and one group, drawn by the four lanes of a quad; 0 < threshold < kThresholdAll.
__device__ __forceinline__ u32 quad_word(const Mask& mask, u32 row, u32 block) {
  const u32 q = threadIdx.x % kQuad;
  const PhiloxWords<Word> counter{{4 * block + q}, {row}, {mask.step}, {mask.stream}};
  const PhiloxWords<Word> drawn =
      philox4x32_10(counter, static_cast<u32>(mask.seed), static_cast<u32>(mask.seed >> 32));
  const u32 words[4] = {drawn.w0.bits, drawn.w1.bits, drawn.w2.bits, drawn.w3.bits};
  const u32 threshold = mask.threshold << 16;  // the upper half is compared as it is, the lower half after a shift
  u32 bits = 0;
  #pragma unroll
  for (u32 i = 0; i < 4; ++i) {
    bits |= words[i] << 16 >= threshold ? 1u << (8 * i) : 0u;
    bits |= words[i] >= threshold ? 2u << (8 * i) : 0u;
  }
  bits <<= 2 * q;
  bits |= __shfl_xor_sync(kFullMask, bits, 1);
  return bits | __shfl_xor_sync(kFullMask, bits, 2);
}

// Bit e: whether local column j + e of a local row is kept, for j = 32 * any + 8 * (threadIdx.x % 4). All lanes of a
// warp must call it together, the lanes of a quad with the same row and group. Bits of columns past the matrix are
// drawn and not read.
__device__ __forceinline__ u32 keep_vec8(const Mask& mask, u64 row, u64 j) {
  if (mask.threshold == 0) return 0xff;
  if (mask.threshold == kThresholdAll) return 0;
  const u64 col = mask.col0 + j / kGroup * kGroup;
  const u32 coordinate = row_coordinate(mask, row);
  const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
  u32 word = quad_word(mask, coordinate, block);
  if (shift != 0)  // the local group straddles two groups of the mask
    word = word >> shift | quad_word(mask, coordinate, block + 1) << (kGroup - shift);
  return word >> (j % kGroup) & 0xff;
}

}  // namespace fusedrop::cuda
