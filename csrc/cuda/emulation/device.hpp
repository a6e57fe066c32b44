// emulation/device: the functions and macros of cuda/runtime/device.hpp on the host. Every thread of a block is a
// fiber, and blocks run one after the other. The emulation tests indices, tails, barriers and groups of copies, not the
// hardware. Where possible it is stricter: a copy arrives only when it is waited for, the order in which threads run
// changes, shared memory starts as NaN, and an address that is misaligned or outside of shared memory is an error.
#pragma once

#include <cstring>

#include "cuda/emulation/fibers.hpp"

#define FD_KERNEL static
#define FD_DEVICE inline
#define FD_BOUNDS(threads, blocks)
#define FD_PARAMETER
#define FD_UNROLL
#define FD_ROLL

namespace fusedrop::cuda {

inline u32 thread_index() { return emulation::current().thread; }
inline u32 block_size() { return emulation::current().threads; }
inline u32 block_index() { return emulation::current().block_x; }
inline u32 block_index_y() { return emulation::current().block_y; }
inline u32 grid_size() { return emulation::current().grid_x; }

inline char* shared_memory() { return emulation::shared(0, 0, 1); }
inline u32 shared_address(const void* shared) {
  return static_cast<u32>(static_cast<const char*>(shared) - emulation::shared(0, 0, 1));
}
inline void sync_threads() { emulation::sync_block(); }

inline void copy_async_16(u32 shared, const void* global, int valid) { emulation::copy(shared, global, 16, valid); }
inline void copy_async_16(u32 shared, const void* global) { emulation::copy(shared, global, 16, 16); }
inline void copy_async_4(u32 shared, const void* global, int valid) { emulation::copy(shared, global, 4, valid); }
inline void commit_copies() { emulation::commit_copies(); }
template <int n>
void wait_copies() {
  emulation::wait_copies(n);
}

inline u32 shuffle_xor(u32 value, int lanes) {
  struct Lane {
    u32 value;
    int lanes;
    u32 result;
  } mine{value, lanes, 0};
  emulation::sync_warp(&mine, [](void** all) {
    for (int i = 0; i < 32; ++i) {
      Lane& lane = *static_cast<Lane*>(all[i]);
      lane.result = static_cast<Lane*>(all[i ^ lane.lanes])->value;
    }
  });
  return mine.result;
}

namespace emulation {

template <bool transposed>
void load_matrices(u32 (&r)[4], u32 row) {
  struct Lane {
    u32* r;
    const u16* row;
  } mine{r, reinterpret_cast<const u16*>(shared(row, 16, 16))};
  sync_warp(&mine, [](void** all) {
    for (int i = 0; i < 4; ++i)
      for (int lane = 0; lane < 32; ++lane) {
        u32 pair = 0;
        for (int h = 0; h < 2; ++h) {
          const int g = lane / 4, q = 2 * (lane % 4) + h;
          const int y = transposed ? q : g, x = transposed ? g : q;
          pair |= static_cast<u32>(static_cast<Lane*>(all[8 * i + y])->row[x]) << 16 * h;
        }
        static_cast<Lane*>(all[lane])->r[i] = pair;
      }
  });
}

struct Fragments {  // of one lane, of one product
  float* c;
  const u32* a;
  u32 b[2];
};

// C [16,8] += A [16,K] B [K,8] for 16-bit elements, K = 16: a[i] holds row g + 8 (i % 2), columns 2q + h + 8 (i / 2).
template <class S>
void multiply_add(void** all) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& f = *static_cast<Fragments*>(all[lane]);
    const int g = lane / 4, q = 2 * (lane % 4);
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 4; ++i)
        a[g + 8 * (i % 2)][q + h + 8 * (i / 2)] = widen(S{static_cast<u16>(f.a[i] >> 16 * h)});
      for (int i = 0; i < 2; ++i) b[q + h + 8 * i][g] = widen(S{static_cast<u16>(f.b[i] >> 16 * h)});
    }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      float& c = static_cast<Fragments*>(all[lane])->c[i];
      for (int k = 0; k < 16; ++k) c += a[lane / 4 + 8 * (i / 2)][k] * b[k][2 * (lane % 4) + i % 2];
    }
}

inline void multiply_add_tf32(void** all) {
  float a[16][8], b[8][8];
  const auto cut = [](u32 bits) { return float_of(bits & 0xffffe000u); };  // the hardware reads 19 bits
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& f = *static_cast<Fragments*>(all[lane]);
    const int g = lane / 4, q = lane % 4;
    for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][q + 4 * (i / 2)] = cut(f.a[i]);
    for (int i = 0; i < 2; ++i) b[q + 4 * i][g] = cut(f.b[i]);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      float& c = static_cast<Fragments*>(all[lane])->c[i];
      for (int k = 0; k < 8; ++k) c += a[lane / 4 + 8 * (i / 2)][k] * b[k][2 * (lane % 4) + i % 2];
    }
}

}  // namespace emulation

inline void load_matrices(u32 (&r)[4], u32 row) { emulation::load_matrices<false>(r, row); }
inline void load_transposed(u32 (&r)[4], u32 row) { emulation::load_matrices<true>(r, row); }

template <class S>
void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, S) {
  emulation::Fragments mine{c, a, {b0, b1}};
  emulation::sync_warp(&mine, &emulation::multiply_add<S>);
}
inline void multiply_add_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  emulation::Fragments mine{c, a, {b0, b1}};
  emulation::sync_warp(&mine, &emulation::multiply_add_tf32);
}
inline u32 round_tf32(float value) { return (bits_of(value) + 0x1000u) & 0xffffe000u; }

inline Words load16(const void* from) {
  emulation::require_aligned(from, 16);
  Words words;
  std::memcpy(&words, from, 16);
  return words;
}
inline void store16(void* to, const Words& words) {
  emulation::require_aligned(to, 16);
  std::memcpy(to, &words, 16);
}
inline void store8(void* to, u32 low, u32 high) {
  const u32 words[2] = {low, high};
  emulation::require_aligned(to, 8);
  std::memcpy(to, words, 8);
}

template <class S>
u32 narrow_pair(float low, float high, S) {
  S a, b;
  narrow(low, a);
  narrow(high, b);
  return a.bits | static_cast<u32>(b.bits) << 16;
}

}  // namespace fusedrop::cuda
