// draw: keep bits for eight columns of a thread, without drawing a word twice. One call of the generator serves columns
// 2q, 2q + 1 of the four octets of a 32-column group; four neighbouring lanes draw q = 0..3 and join their bits, so that
// each can take the eight columns of one octet, which it loads and stores as a vector.
#pragma once

#include "core/mask.hpp"
#include "cuda/device.hpp"
#include "cuda/tile.hpp"

namespace fusedrop::cuda {

constexpr int kQuad = kGroup / kOctet;  // lanes of a group

// The mask with its name read from device memory, if it lies there: once at a kernel's begin.
FD_DEVICE Mask named(Mask mask) {
  if (mask.drawn == nullptr) return mask;
  mask.seed = static_cast<u64>(mask.drawn[0]);
  mask.step = static_cast<u32>(mask.drawn[1]);
  if (mask.draws_stream) mask.stream ^= static_cast<u32>(mask.drawn[2]);
  return mask;
}

// keep_word of one row and one group, drawn by the four lanes of a quad; 0 < threshold < kThresholdAll.
FD_DEVICE u32 quad_word(const Mask& mask, u32 row, u32 block) {
  const u32 q = thread_index() % kQuad;
  const PhiloxWords<Word> counter{{4 * block + q}, {row}, {mask.step}, {mask.stream}};
  const PhiloxWords<Word> drawn =
      philox4x32_10(counter, static_cast<u32>(mask.seed), static_cast<u32>(mask.seed >> 32));
  const u32 words[4] = {drawn.w0.bits, drawn.w1.bits, drawn.w2.bits, drawn.w3.bits};
  const u32 threshold = mask.threshold << 16;  // compares the upper half as it is, the lower one shifted up
  u32 bits = 0;
  FD_UNROLL
  for (u32 i = 0; i < 4; ++i) {
    bits |= words[i] << 16 >= threshold ? 1u << (8 * i) : 0u;
    bits |= words[i] >= threshold ? 2u << (8 * i) : 0u;
  }
  bits <<= 2 * q;
  bits |= shuffle_xor(bits, 1);
  return bits | shuffle_xor(bits, 2);
}

// Bit e: whether local column j + e of a local row is kept, for j = 32 * any + 8 * (thread_index() % 4). All lanes of a
// warp call it together, the same row and group in a quad; columns past the matrix draw bits that nobody reads.
FD_DEVICE u32 keep_octet(const Mask& mask, u64 row, u64 j) {
  if (mask.threshold == 0) return 0xff;
  if (mask.threshold == kThresholdAll) return 0;
  const u64 col = mask.col0 + j / kGroup * kGroup;
  const u32 coordinate = row_coordinate(mask, row);
  const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
  u32 word = quad_word(mask, coordinate, block);
  if (shift != 0)  // our group lies across two of the mask's
    word = word >> shift | quad_word(mask, coordinate, block + 1) << (kGroup - shift);
  return word >> (j % kGroup) & 0xff;
}

}  // namespace fusedrop::cuda
