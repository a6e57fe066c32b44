// philox: the counter-based generator philox4x32-10.
// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
//
//   four u32 words = philox4x32_10(counter of four u32, key of two u32)
//
// A word U is a u32, or a type with the same two operations, multiply_wide and xor3 (see cuda/gemm/mask_bits.hpp). Ten
// rounds are the published default; seven rounds pass the same tests, but without a margin.
#pragma once

#include "core/platform.hpp"

namespace fusedrop {

constexpr u32 kPhiloxMultiplier0 = 0xD2511F53;
constexpr u32 kPhiloxMultiplier1 = 0xCD9E8D57;
constexpr u32 kPhiloxWeyl0 = 0x9E3779B9;  // golden ratio
constexpr u32 kPhiloxWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
constexpr int kPhiloxRounds = 10;

template <class U>
struct PhiloxWords {
  U w0, w1, w2, w3;
};

FD_FN constexpr void multiply_wide(u32 a, u32 multiplier, u32& hi, u32& lo) {
  const u64 product = static_cast<u64>(a) * multiplier;
  hi = static_cast<u32>(product >> 32);
  lo = static_cast<u32>(product);
}

FD_FN constexpr u32 xor3(u32 a, u32 b, u32 key) { return a ^ b ^ key; }

template <class U>
FD_FN constexpr PhiloxWords<U> philox4x32_10(PhiloxWords<U> c, u32 key0, u32 key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    U hi0{}, lo0{}, hi1{}, lo1{};
    multiply_wide(c.w0, kPhiloxMultiplier0, hi0, lo0);
    multiply_wide(c.w2, kPhiloxMultiplier1, hi1, lo1);
    c = PhiloxWords<U>{xor3(hi1, c.w1, key0), lo1, xor3(hi0, c.w3, key1), lo0};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return c;
}

// Known answers published with Random123. With a wrong constant, round count or word order this file does not compile.
constexpr bool philox_gives(PhiloxWords<u32> counter, u32 key0, u32 key1, PhiloxWords<u32> want) {
  const PhiloxWords<u32> got = philox4x32_10(counter, key0, key1);
  return got.w0 == want.w0 && got.w1 == want.w1 && got.w2 == want.w2 && got.w3 == want.w3;
}
static_assert(philox_gives({0, 0, 0, 0}, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}),
              "philox4x32-10: known answer for zeros");
static_assert(philox_gives({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}),
              "philox4x32-10: known answer for ones");
static_assert(philox_gives({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0,
                           {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}),
              "philox4x32-10: known answer for digits of pi");

}  // namespace fusedrop
