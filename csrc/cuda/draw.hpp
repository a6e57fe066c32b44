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

// keep_word of one row and one group, drawn by the four lanes of a quad.
FD_DEVICE u32 quad_word(const Mask& mask, u32 row, u32 block) {
  const u32 q = thread_index() % kQuad;
  const PhiloxWords<u32> drawn = fragment_words(mask, row, block, q);
  const u32 words[4] = {drawn.w0, drawn.w1, drawn.w2, drawn.w3};
  u32 bits = 0;
  FD_UNROLL
  for (u32 i = 0; i < 4; ++i)
    for (u32 h = 0; h < 2; ++h) bits |= static_cast<u32>(keep_half(words[i], h, mask.threshold)) << (8 * i + h);
  bits <<= 2 * q;
  bits |= shuffle_xor(bits, 1);
  return bits | shuffle_xor(bits, 2);
}

// Bit e: whether local column j + e of a local row is kept, for j = 32 * any + 8 * (thread_index() % 4). All lanes of a
// warp call it together, the same row and group in a quad; columns past the matrix draw bits that nobody reads.
FD_DEVICE u32 keep_octet(const Mask& mask, u64 row, u64 j) {
  if (mask.threshold == 0) return 0xff;
  const u64 col = mask.col0 + j / kGroup * kGroup;
  const u32 coordinate = row_coordinate(mask, row);
  const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
  u32 word = quad_word(mask, coordinate, block);
  if (shift != 0)  // our group lies across two of the mask's
    word = word >> shift | quad_word(mask, coordinate, block + 1) << (kGroup - shift);
  return word >> (j % kGroup) & 0xff;
}

}  // namespace fusedrop::cuda
