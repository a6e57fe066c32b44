// mask_bits: keep bits for strips of a mask. A strip is 32 columns wide and has one u32 per row, with bit c for local
// column j + c.
//
// The array may start anywhere in the global mask. Where col0 is not a multiple of 32, a strip overlaps two groups, and
// each word is joined from two. p = 0 and p = 1 do not call the generator.
#pragma once

#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

class MaskBits {
 public:
  explicit MaskBits(const Mask& mask) : mask_(mask), keys_(philox_keys(mask.seed)) {}

  const Mask& mask() const { return mask_; }
  bool keeps_all() const { return mask_.threshold == 0; }

  // Rows i .. i+rows-1 of one strip. Writes four words at a time: `words` needs room for rows rounded up to 4.
  void strip(i64 i, i64 rows, i64 j, u32* words) const {
    if (fill_constant(words, rows)) return;
    const u64 col = mask_.col0 + static_cast<u64>(j);
    const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
    if (rows_repeat()) return repeating_strip(i, rows, block, shift, words);
    for (i64 r = 0; r < rows; r += 4) {
      four_rows(i + r, block, words + r);
      if (shift == 0) continue;
      u32 right[4];
      four_rows(i + r, block + 1, right);
      for (int g = 0; g < 4; ++g) words[r + g] = join(words[r + g], right[g], shift);
    }
  }

  // Row i of `count` strips from column j on. Writes count words, plus one when misaligned, rounded up to 4.
  void row(i64 i, i64 j, i64 count, u32* words) const {
    if (fill_constant(words, count)) return;
    const u64 col = mask_.col0 + static_cast<u64>(j);
    const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
    const u32 r = row_coordinate(mask_, static_cast<u64>(i));
    const i64 groups = shift == 0 ? count : count + 1;
    for (i64 g = 0; g < groups; g += 4) keep_words4(keys_, mask_, {r, 0, block + static_cast<u32>(g), 1}, words + g);
    if (shift == 0) return;
    for (i64 g = 0; g < count; ++g) words[g] = join(words[g], words[g + 1], shift);
  }

 private:
  bool rows_repeat() const { return mask_.repeat != 1 || mask_.period != 0; }

  // Rows i .. i+3 of one group.
  FD_FN void four_rows(i64 i, u32 block, u32* words) const {
    keep_words4(keys_, mask_, {row_coordinate(mask_, static_cast<u64>(i)), mask_.unit ? 0u : 1u, block, 0}, words);
  }

  // Rows that repeat or wrap around have no constant stride: a row is drawn when it differs from the previous one.
  void repeating_strip(i64 i, i64 rows, u32 block, u32 shift, u32* words) const {
    u32 drawn_row = 0, pair[4] = {};  // words of this group and of the next, which a misaligned strip joins
    for (i64 r = 0; r < rows; ++r) {
      const u32 row = row_coordinate(mask_, static_cast<u64>(i + r));
      if (r == 0 || row != drawn_row) keep_words4(keys_, mask_, {row, 0, block, 1}, pair);
      drawn_row = row;
      words[r] = shift == 0 ? pair[0] : join(pair[0], pair[1], shift);
    }
  }

  static u32 join(u32 left, u32 right, u32 shift) { return (left >> shift) | (right << (kGroup - shift)); }

  // For p = 0 and p = 1: fills the words and returns true.
  bool fill_constant(u32* words, i64 count) const {
    if (mask_.threshold != 0 && mask_.threshold != kThresholdAll) return false;
    const u32 word = mask_.threshold == 0 ? ~0u : 0u;
    for (i64 r = 0; r < count; ++r) words[r] = word;
    return true;
  }

  Mask mask_;
  PhiloxKeys keys_;
};

// Number of words to allocate for `count` rows or strips, for any origin of the array.
constexpr i64 mask_bits_room(i64 count) { return (count + 1 + 3) / 4 * 4; }

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
