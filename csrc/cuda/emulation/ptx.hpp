// emulation/ptx: the functions of cuda/runtime/ptx.hpp on the host. Every thread of a block is a fiber, and blocks run
// one after the other. The emulation tests indices, tails, barriers and groups of copies, not the hardware. Where
// possible it is stricter: a copy arrives only when it is waited for, the order in which threads run changes, shared
// memory starts as NaN, and an address that is misaligned or outside of shared memory is an error.
#pragma once

#include <cstring>

#include "core/dtypes.hpp"
#include "cuda/emulation/fibers.hpp"

namespace fusedrop::cuda {

inline void cp_async_16(u32 shared, const void* global, int src_size) { emulation::copy(shared, global, 16, src_size); }
inline void cp_async_16(u32 shared, const void* global) { emulation::copy(shared, global, 16, 16); }
inline void cp_async_4(u32 shared, const void* global, int src_size) { emulation::copy(shared, global, 4, src_size); }
inline void cp_async_commit_group() { emulation::commit_copies(); }
template <int n>
void cp_async_wait_group() {
  emulation::wait_copies(n);
}

namespace emulation {

template <bool transposed>
void ldmatrix(u32 (&r)[4], u32 row) {
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
void mma_m16n8k16(void** all) {
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

inline void mma_m16n8k8(void** all) {
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

inline void ldmatrix_x4(u32 (&r)[4], u32 row) { emulation::ldmatrix<false>(r, row); }
inline void ldmatrix_x4_trans(u32 (&r)[4], u32 row) { emulation::ldmatrix<true>(r, row); }

template <class S>
void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, S) {
  emulation::Fragments mine{c, a, {b0, b1}};
  emulation::sync_warp(&mine, &emulation::mma_m16n8k16<S>);
}
inline void mma_m16n8k8(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  emulation::Fragments mine{c, a, {b0, b1}};
  emulation::sync_warp(&mine, &emulation::mma_m16n8k8);
}
inline u32 cvt_rna_tf32(float value) { return (bits_of(value) + 0x1000u) & 0xffffe000u; }

template <class V>
V ld(const void* from) {
  emulation::require_aligned(from, alignof(V));
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
void st(void* to, const V& v) {
  emulation::require_aligned(to, alignof(V));
  std::memcpy(to, &v, sizeof v);
}

}  // namespace fusedrop::cuda
