// tile: the integer arithmetic of a block's tile, in host and device functions. tests/cuda/host_tile.cpp checks on the
// host that every element is visited once and that fragments are where the tensor cores expect them.
//
// An operand is a matrix with indices row and k: element (row, k) of A [M,K] and of B [N,K] (C = A Bᵀ). Its tile in
// shared memory consists of lines of vec8s (8 elements, 16 bytes). A line runs along the index that is contiguous in
// memory.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cuda {

enum class Major { k, row };  // the contiguous index

// A block's tile [M,N], the depth K of a k-step, a warp's part of the tile, and the number of k-steps in shared memory.
template <int M_, int N_, int K_, int WarpM_, int WarpN_, int Stages_>
struct TileShape {
  static constexpr int M = M_, N = N_, K = K_, WarpM = WarpM_, WarpN = WarpN_, Stages = Stages_;
  static constexpr int WarpsN = N / WarpN, Warps = M / WarpM * WarpsN, Threads = 32 * Warps;
  static constexpr int Quads = Threads / 4;  // quads of lanes; each takes 32 columns of a row
  static constexpr int Rounds = M * (N / 32) / Quads;  // rounds in which the quads cover the finished tile
  static constexpr int SumStride = N + 4;  // row stride of the finished sums in shared memory, in floats
};

struct Position {
  i64 m, n;
};

// Tiles are ordered in bands of 8 tile rows, and within a band column by column. Blocks that run at the same time then
// share rows of A and B in the L2 cache.
constexpr i64 kBand = 8;
FD_FN Position tile_position(i64 index, i64 tiles_m, i64 tiles_n) {
  const i64 first = index / (kBand * tiles_n) * kBand, within = index % (kBand * tiles_n);
  const i64 rows = tiles_m - first < kBand ? tiles_m - first : kBand;
  return {first + within % rows, within / rows};
}

// The first k-step of part `part`, if [0, k_steps) is cut into `parts` contiguous parts of equal size (within 1).
FD_FN i64 part_begin(i64 k_steps, i64 part, i64 parts) { return k_steps * part / parts; }

constexpr int kVec8 = 8;  // elements of a vec8, which a thread moves at once: 16 bytes if an element has 16 bits

FD_FN int at_most(int most, i64 left) { return left < most ? static_cast<int>(left) : most; }

// The number of elements of the vec8 [at, at + 8) that are below `end`.
template <class Index>
FD_FN int valid_in_vec8(Index at, Index end) {
  return at >= end ? 0 : end - at < kVec8 ? static_cast<int>(end - at) : kVec8;
}

struct Place {  // of a vec8 in a tile
  int line, vec8;
};

// A tile of `rows` x `depth` elements of 16 bits. The vec8s of a line are permuted (swizzled), so that the eight
// rows of an 8x8 matrix, and the lines that a warp writes at once, are in different banks.
template <Major major, int rows, int depth>
struct HalfTile {
  static constexpr int Lines = major == Major::k ? rows : depth;
  static constexpr int Vec8s = (major == Major::k ? depth : rows) / 8;
  static constexpr int Bytes = rows * depth * 2;

  static FD_FN int offset(Place p) {
    const int swizzle = Vec8s >= 8 ? p.line & 7 : Vec8s == 4 ? (p.line >> 1) & 3 : (p.line >> 2) & 1;
    return (p.line * Vec8s + (p.vec8 ^ swizzle)) * 16;
  }
  // The c-th of the Lines * Vec8s / threads vec8s that a thread copies.
  static FD_FN Place copied(int thread, int c, int threads) {
    const int index = thread + c * threads;
    return {index / Vec8s, index % Vec8s};
  }
  // Distance in shared memory of two consecutive vec8s of a thread. Their lines differ by threads / Vec8s, which does
  // not change the swizzle.
  static FD_FN constexpr int copy_bytes(int threads) { return threads * 16; }
};

// The row of an 8x8 matrix that lane `lane` passes to ldmatrix.x4, for A's fragment [16 rows, 16 k] at (row, k). Lines
// along k are loaded as they are, lines along rows are loaded transposed.
template <Major major>
FD_FN Place fragment_a(int lane, int row, int k) {
  if (major == Major::k) return {row + lane % 16, k / 8 + lane / 16};
  return {k + lane % 8 + 8 * (lane / 16), row / 8 + lane / 8 % 2};
}

// The same for two of B's fragments, [16 rows, 16 k]: registers 0 and 1 hold the first 8 rows, 2 and 3 the last 8.
template <Major major>
FD_FN Place fragment_b(int lane, int row, int k) {
  if (major == Major::k) return {row + lane % 8 + 8 * (lane / 16), k / 8 + lane / 8 % 2};
  return {k + lane % 16, row / 8 + lane / 16};
}

// The position of accumulator i of a lane within a 16x8 product.
struct Element {
  int row, col;
};
FD_FN Element accumulator(int lane, int i) { return {lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2}; }

// The first element of the vec8 that a thread handles in a round of the epilogue. A warp has eight rows of one
// 32-column group.
template <class Shape>
FD_FN Element epilogue_element(int thread, int round) {
  const int quad = round * Shape::Quads + thread / 4;
  return {quad % Shape::M, 32 * (quad / Shape::M) + 8 * (thread % 4)};
}

}  // namespace fusedrop::cuda
