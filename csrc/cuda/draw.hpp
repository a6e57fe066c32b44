// draw: keep bits for eight columns of a thread, without drawing a word twice. One call of the generator serves columns
// 2q, 2q + 1 of the four octets of a 32-column group; four neighbouring lanes draw q = 0..3 and exchange words, so that
// each ends with the eight columns of one octet, which it can load and store as a vector.
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

// Lane l of each quad gives words[0..3] and gets word l of lanes 0..3.
FD_DEVICE void transpose_quad(u32 (&words)[4]) {
  const u32 lane = thread_index();
  const bool odd = (lane & 1) != 0, high = (lane & 2) != 0;
  const u32 a = shuffle_xor(odd ? words[0] : words[1], 1), b = shuffle_xor(odd ? words[2] : words[3], 1);
  if (odd)
    words[0] = a, words[2] = b;
  else
    words[1] = a, words[3] = b;
  const u32 c = shuffle_xor(high ? words[0] : words[2], 2), d = shuffle_xor(high ? words[1] : words[3], 2);
  if (high)
    words[0] = c, words[1] = d;
  else
    words[2] = c, words[3] = d;
}

// Eight columns from any global column on, in eight calls of the generator: for an origin inside a group, where groups of
// the mask lie across ours. A function of its own, for kernels draw many octets in unrolled loops.
FD_OUTLINE u32 keep_octet_across(u64 seed, u32 stream, u32 step, u32 row, u64 col, u32 threshold) {
  Mask mask;
  mask.seed = seed, mask.stream = stream, mask.step = step, mask.row0 = row, mask.threshold = threshold;
  u32 bits = 0;
  FD_ROLL
  for (u32 e = 0; e < kOctet; ++e) bits |= static_cast<u32>(keep_element(mask, 0, col + e)) << e;
  return bits;
}

// Bit e: whether local column j + e of a local row is kept, for j = 32 * any + 8 * (thread_index() % 4). All lanes of a
// warp call it together, the same row and group in a quad; columns past the matrix draw bits that nobody reads.
FD_DEVICE u32 keep_octet(const Mask& mask, u64 row, u64 j) {
  if (mask.threshold == 0) return 0xff;
  const u32 drawn_row = row_coordinate(mask, row);
  if (mask.col0 % kGroup != 0)
    return keep_octet_across(mask.seed, mask.stream, mask.step, drawn_row, mask.col0 + j, mask.threshold);
  const u32 block = static_cast<u32>((mask.col0 + j) / kGroup);
  const PhiloxWords<u32> drawn = fragment_words(mask, drawn_row, block, thread_index() % kQuad);
  u32 words[4] = {drawn.w0, drawn.w1, drawn.w2, drawn.w3};
  transpose_quad(words);
  u32 bits = 0;
  FD_UNROLL
  for (u32 q = 0; q < 4; ++q) FD_UNROLL
  for (u32 h = 0; h < 2; ++h) bits |= static_cast<u32>(keep_half(words[q], h, mask.threshold)) << (2 * q + h);
  return bits;
}

}  // namespace fusedrop::cuda
