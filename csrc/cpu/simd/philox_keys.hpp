// philox_keys: the ten round keys of a seed, as 64-bit lanes of which only the low halves are used. Made once per call.
#pragma once

#include "core/mask.hpp"

namespace fusedrop {

struct PhiloxKeys {
  u64 k0[kPhiloxRounds];
  u64 k1[kPhiloxRounds];
};

FD_FN PhiloxKeys philox_keys(u64 seed) {
  PhiloxKeys keys;
  u32 k0 = static_cast<u32>(seed), k1 = static_cast<u32>(seed >> 32);
  for (int r = 0; r < kPhiloxRounds; ++r, k0 += kPhiloxWeyl0, k1 += kPhiloxWeyl1) {
    keys.k0[r] = k0;
    keys.k1[r] = k1;
  }
  return keys;
}

// Four (row, 32-column group) pairs: pair g is (row + g * row_stride, block + g * block_stride). Not arrays, because a
// vector load of words that were just stored one by one would wait for the store buffer.
struct Quad {
  u32 row, row_stride, block, block_stride;
};

}  // namespace fusedrop
