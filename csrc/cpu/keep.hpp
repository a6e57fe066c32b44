// keep: keep bits for the rectangles that kernels work on: 32 columns wide, a u32 a row, bit c for local column j + c.
//
// The array may start anywhere in the global mask: where col0 is no multiple of 32, a strip straddles two groups and
// its words are joined from both. p = 0 and p = 1 call no generator.
#pragma once

#include "cpu/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

class Keeper {
 public:
  explicit Keeper(const Mask& mask) : mask_(mask), keys_(philox_keys(mask.seed)) {}

  const Mask& mask() const { return mask_; }
  bool keeps_all() const { return mask_.threshold == 0; }

  // Rows i .. i+rows-1 of one strip; writes whole fours, so `words` has room for rows rounded up to 4.
  void strip(i64 i, i64 rows, i64 j, u32* words) const {
    if (constant(words, rows)) return;
    const u64 col = mask_.col0 + static_cast<u64>(j);
    const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
    const u32 blocks[4] = {block, block, block, block}, next[4] = {block + 1, block + 1, block + 1, block + 1};
    for (i64 r = 0; r < rows; r += 4) {
      u32 row[4];
      for (int g = 0; g < 4; ++g) row[g] = row_coordinate(mask_, static_cast<u64>(i + r + g));
      keep_words4(keys_, mask_, row, blocks, words + r);
      if (shift == 0) continue;
      u32 right[4];
      keep_words4(keys_, mask_, row, next, right);
      for (int g = 0; g < 4; ++g) words[r + g] = join(words[r + g], right[g], shift);
    }
  }

  // One row, `count` strips from column j on; writes count rounded up to 4, plus one word when misaligned.
  void row(i64 i, i64 j, i64 count, u32* words) const {
    if (constant(words, count)) return;
    const u64 col = mask_.col0 + static_cast<u64>(j);
    const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
    const u32 r = row_coordinate(mask_, static_cast<u64>(i));
    const u32 rows[4] = {r, r, r, r};
    const i64 groups = shift == 0 ? count : count + 1;
    for (i64 g = 0; g < groups; g += 4) {
      const u32 at = block + static_cast<u32>(g);
      const u32 blocks[4] = {at, at + 1, at + 2, at + 3};
      keep_words4(keys_, mask_, rows, blocks, words + g);
    }
    if (shift == 0) return;
    for (i64 g = 0; g < count; ++g) words[g] = join(words[g], words[g + 1], shift);
  }

 private:
  static u32 join(u32 left, u32 right, u32 shift) { return (left >> shift) | (right << (kGroup - shift)); }

  bool constant(u32* words, i64 count) const {
    if (mask_.threshold != 0 && mask_.threshold != kThresholdAll) return false;
    const u32 word = mask_.threshold == 0 ? ~0u : 0u;
    for (i64 r = 0; r < count; ++r) words[r] = word;
    return true;
  }

  Mask mask_;
  PhiloxKeys keys_;
};

// Room for the words of `count` rows or strips, whatever the origin.
constexpr i64 keep_room(i64 count) { return (count + 1 + 3) / 4 * 4; }

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
