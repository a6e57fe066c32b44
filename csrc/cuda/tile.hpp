// tile: the integer arithmetic of a block's tile, all of it host and device functions: tests/cuda/host_tile.cpp proves that
// every element is visited once, and that fragments are where the tensor cores expect them.
//
// An operand is a matrix of rows and k: element (row, k) of A [M,K] and of B [N,K] (C = A Bᵀ). Its tile in shared memory
// consists of lines of octets (8 elements, 16 bytes); a line runs along whichever index is contiguous in memory.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cuda {

enum class Major { k, row };  // the contiguous index

// A block's tile [M,N] in steps of K, a warp's part of it, and how many steps are in shared memory at a time.
template <int M_, int N_, int K_, int WarpM_, int WarpN_, int Stages_>
struct TileShape {
  static constexpr int M = M_, N = N_, K = K_, WarpM = WarpM_, WarpN = WarpN_, Stages = Stages_;
  static constexpr int WarpsN = N / WarpN, Warps = M / WarpM * WarpsN, Threads = 32 * Warps;
  static constexpr int Quads = Threads / 4;  // of lanes, each with 32 columns of a row
  static constexpr int Rounds = M * (N / 32) / Quads;  // in which the quads go over the finished tile
  static constexpr int SumStride = N + 4;  // of the finished sums in shared memory, in floats
};

struct Position {
  i64 m, n;
};

// The tiles in bands of 8 rows, down each column of a band: blocks that run together share rows of A and columns of B in
// the L2 cache.
constexpr i64 kBand = 8;
FD_FN Position tile_position(i64 index, i64 tiles_m, i64 tiles_n) {
  const i64 first = index / (kBand * tiles_n) * kBand, within = index % (kBand * tiles_n);
  const i64 rows = tiles_m - first < kBand ? tiles_m - first : kBand;
  return {first + within % rows, within / rows};
}

// Part `part` of `parts` of the steps 0 .. steps-1: contiguous, all but the same size.
FD_FN i64 part_begin(i64 steps, i64 part, i64 parts) { return steps * part / parts; }

constexpr int kOctet = 8;  // elements a thread moves at a time: 16 bytes of 16-bit ones

FD_FN int at_most(int most, i64 left) { return left < most ? static_cast<int>(left) : most; }

// How many of the 8 elements from `at` on lie below `end`.
template <class Index>
FD_FN int valid_of_octet(Index at, Index end) {
  return at >= end ? 0 : end - at < kOctet ? static_cast<int>(end - at) : kOctet;
}

struct Place {  // of an octet
  int line, octet;
};

// A tile of `rows` x `depth` elements of 16 bits. Octets are exchanged within a line so that the eight rows of an 8x8
// matrix, and the lines that a warp writes at once, lie in different banks.
template <Major major, int rows, int depth>
struct HalfTile {
  static constexpr int Lines = major == Major::k ? rows : depth;
  static constexpr int Octets = (major == Major::k ? depth : rows) / 8;
  static constexpr int Bytes = rows * depth * 2;

  static FD_FN int offset(Place p) {
    const int turn = Octets >= 8 ? p.line & 7 : Octets == 4 ? (p.line >> 1) & 3 : (p.line >> 2) & 1;
    return (p.line * Octets + (p.octet ^ turn)) * 16;
  }
  // The octets that a thread brings: its c-th of Lines * Octets / threads.
  static FD_FN Place brought(int thread, int c, int threads) {
    const int index = thread + c * threads;
    return {index / Octets, index % Octets};
  }
  // How far apart in shared memory two of its octets are: lines further on by threads / Octets keep their turn.
  static FD_FN constexpr int copy_bytes(int threads) { return threads * 16; }
};

// Where lane l finds the row of its 8x8 matrix (ldmatrix.x4) for A's fragment [16 rows, 16 k] at (row, k). Lines along k
// are loaded as they are, lines along rows transposed.
template <Major major>
FD_FN Place fragment_a(int lane, int row, int k) {
  if (major == Major::k) return {row + lane % 16, k / 8 + lane / 16};
  return {k + lane % 8 + 8 * (lane / 16), row / 8 + lane / 8 % 2};
}

// The same for two of B's fragments, [16 rows, 16 k]: registers 0, 1 are the first 8 rows, 2, 3 the others.
template <Major major>
FD_FN Place fragment_b(int lane, int row, int k) {
  if (major == Major::k) return {row + lane % 8 + 8 * (lane / 16), k / 8 + lane / 8 % 2};
  return {k + lane % 16, row / 8 + lane / 16};
}

// Element i of the accumulator of a 16x8 product, within it.
struct Element {
  int row, col;
};
FD_FN Element accumulator(int lane, int i) { return {lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2}; }

// The octet of the finished tile that a thread takes in a round: a warp has eight rows of one 32-column group.
template <class Shape>
FD_FN Element finished(int thread, int round) {
  const int quad = round * Shape::Quads + thread / 4;
  return {quad % Shape::M, 32 * (quad / Shape::M) + 8 * (thread % 4)};
}

}  // namespace fusedrop::cuda
