// mask: the mask contract, version 1. Element (row, col) of the mask (seed, stream, step) is kept when
//
//   ctr  = (4*(col / 32) + (col % 8) / 2, row, step, stream)     key = (low, high half of seed)
//   word = philox4x32_10(ctr, key)[(col % 32) / 8]
//   keep = 16-bit half (col % 2) of word >= threshold            threshold = round_half_even(p * 65536)
//
// One call of the generator gives eight columns of a 32-column group, in the order of a tensor core's accumulator
// fragment: half h of word i of call q is column 8i + 2q + h. The row is the global row, or a value derived from it
// (see row_coordinate).
#pragma once

#include "core/philox.hpp"

namespace fusedrop {

constexpr u32 kThresholdAll = 65536;  // p = 1: every element is dropped
constexpr u32 kUnitRow = 0xffffffff;  // reserved row: unit dropout decides once per column and uses this row
constexpr u32 kInputStream = 0x80000000;  // this bit of `stream` is flipped for the mask of a layer's input
constexpr u64 kMaxRows = kUnitRow;  // global rows are smaller than the reserved row
constexpr u64 kMaxCols = u64{1} << 35;  // 4 * (col / 32) must fit a u32
constexpr int kGroup = 32;  // columns of a group: one keep word has 32 bits

struct Mask {
  u64 seed = 0;
  u32 stream = 0;
  u32 step = 0;
  u64 row0 = 0;  // row0, col0: global coordinates of element (0, 0) of the array
  u64 col0 = 0;
  u64 repeat = 1;  // `repeat` consecutive rows share one mask row
  u64 period = 0;  // mask rows start again after `period` mask rows; 0: never
  u32 threshold = 0;  // 0 keeps every element, kThresholdAll keeps none
  bool unit = false;  // unit dropout: one decision per column
  // CUDA only: device memory that holds (seed, step) or (seed, step, stream). It replaces the members above, and a
  // captured graph reads it at each replay. The member `stream` is then xor-ed into the stream that was read.
  const i64* device_key = nullptr;
  bool device_key_has_stream = false;
};

// 65536 / (65536 - t): the expectation is exact for the effective rate t / 65536. The scale is 0 where every element is
// dropped, so that no Inf and no NaN appears.
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

// The four words of one generator call, for columns 32*block + 8i + 2q + h with i in 0..3 and h in 0..1.
FD_FN PhiloxWords<u32> fragment_words(const Mask& mask, u32 row, u32 block, u32 q) {
  const PhiloxWords<u32> counter{4 * block + q, row, mask.step, mask.stream};
  return philox4x32_10(counter, static_cast<u32>(mask.seed), static_cast<u32>(mask.seed >> 32));
}

FD_FN bool keep_half(u32 word, u32 half, u32 threshold) { return ((word >> (16 * half)) & 0xffff) >= threshold; }

// The 32 keep bits of one row of a 32-column group: bit c for column c.
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

// One element, by its local coordinates: a direct transcription of the contract. Kernels use the wider forms above.
FD_FN bool keep_element(const Mask& mask, u64 local_row, u64 local_col) {
  const u64 col = mask.col0 + local_col;
  const u32 c = static_cast<u32>(col % kGroup);
  const PhiloxWords<u32> words =
      fragment_words(mask, row_coordinate(mask, local_row), static_cast<u32>(col / kGroup), (c % 8) / 2);
  // Not an array: an index that is only known at run time would move the words from registers to memory.
  const u32 word = c < 16 ? (c < 8 ? words.w0 : words.w1) : (c < 24 ? words.w2 : words.w3);
  return keep_half(word, c % 2, mask.threshold);
}

}  // namespace fusedrop
