// finish: from a tile's sums to y and z. Keep bits are drawn before the product, while its first tiles travel, and lie in
// registers, a byte a round; the sums go through shared memory, so that a thread has the eight columns of a keep byte.
#pragma once

#include "cuda/draw.hpp"
#include "cuda/gemm.hpp"
#include "cuda/launch.hpp"
#include "cuda/vector.hpp"

namespace fusedrop::cuda {

// What the grid covers, with the counts that lie in device memory read.
struct Extent {
  i64 M, N, K;
};
FD_DEVICE Extent extent_of(const Gemm& g) {
  return {g.m_count != nullptr ? *g.m_count : g.M, g.n_count != nullptr ? *g.n_count : g.N,
          g.k_count != nullptr ? *g.k_count : g.K};
}

template <class Shape>
FD_DEVICE Position tile_of(const Gemm& g, i64 block) {
  const Position tile = tile_position(block, divide_up(g.M, Shape::M), divide_up(g.N, Shape::N));
  return {tile.m * Shape::M, tile.n * Shape::N};
}

struct Steps {  // of k, that a block takes
  i64 first;
  int count;
  template <class Shape>
  FD_DEVICE i64 k_of(int step) const {
    return (first + step) * Shape::K;
  }
};
template <class Shape>
FD_DEVICE Steps steps_of(const Gemm& g, const Extent& extent, i64 split) {
  const i64 steps = divide_up(extent.K, Shape::K), first = part_begin(steps, split, g.splits);
  return {first, static_cast<int>(part_begin(steps, split + 1, g.splits) - first)};
}

// A block a tile and split, with shared memory for the stages and, after them, the sums.
template <class Shape>
Grid grid_of(const Gemm& g, u32 stages) {
  constexpr u32 sums = Shape::M * Shape::SumStride * sizeof(float);
  return {divide_up(g.M, Shape::M) * divide_up(g.N, Shape::N), Shape::Threads, stages > sums ? stages : sums,
          static_cast<u32>(g.splits)};
}

template <class S>
FD_DEVICE const S* element(const Matrix& m, i64 row, i64 col) {
  return static_cast<const S*>(m.data) + row * m.row_stride + col * m.col_stride;
}

// Sums v of row i, columns j .. j+7 of C, of which the first `valid` exist.
template <class S>
FD_DEVICE void finish_octet(const Finish& f, i64 i, i64 j, int valid, u32 keep, float (&v)[kOctet]) {
  if (valid <= 0) return;
  const i64 row = f.rows != nullptr ? f.rows[i] : i;
  const bool vector = f.vector && valid == kOctet && f.cols == nullptr;
  const auto column = [&](int e) -> i64 { return f.cols != nullptr ? f.cols[j + e] : j + e; };
  const auto store = [&](void* to) {
    S* line = static_cast<S*>(to) + row * f.ld;
    if (f.cols == nullptr) return store_octet(line + j, valid, vector, v);
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e)
      if (e < valid) narrow(v[e], line[column(e)]);
  };
  if (f.b != nullptr) {
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e)
      if (e < valid) v[e] += widen(static_cast<const S*>(f.b)[column(e) * f.b_stride]);
  }
  if (f.z != nullptr) store(f.z);
  with_activation(f.activation, [&](auto act) {
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e)
      v[e] = Epilogue<decltype(act)>::forward(v[e], (keep >> e & 1) != 0, f.scale, f.before);
  });
  if (f.residual.data != nullptr) {
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e)
      if (e < valid) v[e] = widen(*element<S>(f.residual, row, column(e))) + v[e];
  }
  store(f.y);
}

// The keep bits of a thread's octets of a tile: byte r % 4 of word r / 4 for round r.
template <class Shape>
struct TileBits {
  static constexpr int InWord = Shape::Rounds < 4 ? Shape::Rounds : 4;
  u32 words[(Shape::Rounds + 3) / 4];

  FD_DEVICE void draw(const Mask& given, Position tile) {
    FD_UNROLL
    for (u32& word : words) word = ~0u;
    if (given.threshold == 0) return;
    const Mask mask = named(given);
    if (!mask.unit && mask.repeat <= 1 && mask.period == 0 && mask.col0 % kGroup == 0)
      draw_rows(mask, tile);
    else
      draw_any(mask, tile);
  }

  // Without a branch, so that the generator's calls of all rounds run beside each other.
  FD_DEVICE void draw_rows(const Mask& mask, Position tile) {
    const u32 row = static_cast<u32>(mask.row0 + static_cast<u64>(tile.m));
    const u32 block = static_cast<u32>((mask.col0 + static_cast<u64>(tile.n)) / kGroup);
    FD_UNROLL
    for (int r = 0; r < Shape::Rounds; ++r) {
      const Element e = finished<Shape>(static_cast<int>(thread_index()), r);
      const u32 word = quad_word(mask, row + static_cast<u32>(e.row), block + static_cast<u32>(e.col / kGroup));
      set(r, word >> (e.col % kGroup) & 0xff);
    }
  }

  FD_DEVICE void draw_any(const Mask& mask, Position tile) {
    FD_UNROLL
    for (int first = 0; first < Shape::Rounds; first += InWord) {
      u32 bits = 0;
      FD_ROLL
      for (int r = first; r < first + InWord; ++r) {
        const Element e = finished<Shape>(static_cast<int>(thread_index()), r);
        const u32 octet = keep_octet(mask, static_cast<u64>(tile.m + e.row), static_cast<u64>(tile.n + e.col));
        bits |= octet << (8 * (r - first));
      }
      words[first / 4] = bits;
    }
  }

  FD_DEVICE void set(int round, u32 octet) { words[round / 4] ^= (octet ^ 0xff) << (8 * (round % 4)); }

  FD_DEVICE u32 of(int round) const {  // without an index into registers that the compiler cannot see
    u32 word = words[0];
    FD_UNROLL
    for (int i = 1; i < (Shape::Rounds + 3) / 4; ++i) word = round / 4 == i ? words[i] : word;
    return word >> (8 * (round % 4)) & 0xff;
  }
};

// `sums` [Shape::M, Shape::SumStride] in shared memory, written by all threads before a barrier.
template <class S, class Shape>
FD_DEVICE void finish_tile(const Gemm& g, const Extent& extent, Position tile, const float* sums,
                           const TileBits<Shape>& bits) {
  for (int r = 0; r < Shape::Rounds; ++r) {
    const Element e = finished<Shape>(static_cast<int>(thread_index()), r);
    const i64 i = tile.m + e.row, j = tile.n + e.col;
    float v[kOctet];
    load_octet(sums + e.row * Shape::SumStride + e.col, 1, kOctet, true, v);
    if (g.splits == 1) {
      finish_octet<S>(g.finish, i, j, i < extent.M ? valid_of_octet(j, extent.N) : 0, bits.of(r), v);
    } else {  // whole tiles have room
      const i64 M = round_up(g.M, Shape::M), N = round_up(g.N, Shape::N);
      store_octet(g.partial + (block_index_y() * M + i) * N + j, kOctet, true, v);
    }
  }
}

}  // namespace fusedrop::cuda
