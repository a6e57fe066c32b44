// mask: the mask contract, version 1. Element (row, col) of the mask (seed, stream, step) is kept when
//
//   ctr  = (4*(col / 32) + (col % 8) / 2, row, step, stream)     key = (low, high half of seed)
//   word = philox4x32_10(ctr, key)[(col % 32) / 8]
//   keep = 16-bit half (col % 2) of word >= threshold            threshold = round_half_even(p * 65536)
//
// One call serves eight columns of a 32-column group, in the order of a tensor core's accumulator fragment: word
// i, half h of call q is column 8i + 2q + h. The row is the global row, or one derived from it (see row_coordinate).
#pragma once

#include "core/philox.hpp"

namespace fusedrop {

constexpr u32 kThresholdAll = 65536;  // p = 1: nothing is kept
constexpr u32 kUnitRow = 0xffffffff;  // reserved row of one-decision-per-column masks
constexpr u32 kInputStream = 0x80000000;  // flipped in `stream` for the mask of a layer's input
constexpr u64 kMaxRows = kUnitRow;  // global rows stop below the reserved one
constexpr u64 kMaxCols = u64{1} << 35;  // 4 * (col / 32) is a u32
constexpr int kGroup = 32;  // columns of a group; one keep word of 32 bits

struct Mask {
  u64 seed = 0;
  u32 stream = 0;
  u32 step = 0;
  u64 row0 = 0;  // global coordinates of the array's element (0, 0)
  u64 col0 = 0;
  u64 repeat = 1;  // constant over blocks of `repeat` rows,
  u64 period = 0;  // and again after `period` of those; 0: never
  u32 threshold = 0;  // 0 keeps all, kThresholdAll keeps none
  bool unit = false;  // one decision per column
  // CUDA only: device memory that holds seed and step, or seed, step and stream, instead of the members above; what a
  // captured graph reads at each replay. `stream` is then flipped into the one that is read.
  const i64* drawn = nullptr;
  bool draws_stream = false;
};

// 65536 / (65536 - t): exact in expectation for the effective rate t / 65536; 0 where nothing is kept, so no Inf
// and no NaN.
FD_FN constexpr double keep_scale(u32 threshold) {
  return threshold == kThresholdAll ? 0.0 : 65536.0 / static_cast<double>(kThresholdAll - threshold);
}

FD_FN u32 row_coordinate(const Mask& mask, u64 local_row) {
  if (mask.unit) return kUnitRow;
  u64 row = mask.row0 + local_row;
  if (mask.repeat > 1) row /= mask.repeat;
  if (mask.period > 0) row %= mask.period;
  return static_cast<u32>(row);
}

// The four words of one generator call: columns 32*block + 8i + 2q + h for i in 0..3, h in 0..1.
FD_FN PhiloxWords<u32> fragment_words(const Mask& mask, u32 row, u32 block, u32 q) {
  const PhiloxWords<u32> counter{4 * block + q, row, mask.step, mask.stream};
  return philox4x32_10(counter, static_cast<u32>(mask.seed), static_cast<u32>(mask.seed >> 32));
}

FD_FN bool keep_half(u32 word, u32 half, u32 threshold) { return ((word >> (16 * half)) & 0xffff) >= threshold; }

// 32 keep bits of one row and one 32-column group, bit c for column c.
FD_FN u32 keep_word(const Mask& mask, u32 row, u32 block) {
  u32 bits = 0;
  for (u32 q = 0; q < 4; ++q) {
    const PhiloxWords<u32> words = fragment_words(mask, row, block, q);
    const u32 word[4] = {words.w0, words.w1, words.w2, words.w3};
    for (u32 i = 0; i < 4; ++i)
      for (u32 h = 0; h < 2; ++h)
        bits |= static_cast<u32>(keep_half(word[i], h, mask.threshold)) << (8 * i + 2 * q + h);
  }
  return bits;
}

// One element by its local coordinates: the contract, read directly. Kernels use the wider forms above.
FD_FN bool keep_element(const Mask& mask, u64 local_row, u64 local_col) {
  const u64 col = mask.col0 + local_col;
  const u32 c = static_cast<u32>(col % kGroup);
  const PhiloxWords<u32> words =
      fragment_words(mask, row_coordinate(mask, local_row), static_cast<u32>(col / kGroup), (c % 8) / 2);
  const u32 word = c < 16 ? (c < 8 ? words.w0 : words.w1) : (c < 24 ? words.w2 : words.w3);  // registers have no index
  return keep_half(word, c % 2, mask.threshold);
}

}  // namespace fusedrop
